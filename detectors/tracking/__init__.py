"""Detections over time to one track per person."""
