"""MediaPipe's pose networks."""
