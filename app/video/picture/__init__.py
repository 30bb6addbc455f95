"""Stored frames to pictures as players show them, and what is burnt in around the real one."""
