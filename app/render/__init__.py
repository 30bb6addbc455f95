"""The 2D overlay and the 3D panel of overlay.mp4."""
