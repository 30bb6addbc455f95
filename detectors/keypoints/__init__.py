"""Keypoints of people in boxes: HRNet."""
