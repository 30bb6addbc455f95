"""Cameras, gravity, world coordinates, trajectories and smoothing."""
