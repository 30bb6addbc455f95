"""Video files: what they are, reading and writing."""
