"""Boxes of people: networks and interpolation."""
