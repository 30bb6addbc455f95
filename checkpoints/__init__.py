"""Weights: find, verify, read and fetch."""
