"""Accuracy on clips, motion capture and public benchmarks."""
