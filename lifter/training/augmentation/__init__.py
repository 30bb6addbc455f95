"""Recorded motion as training windows: bodies, cameras and detections that vary at random."""
