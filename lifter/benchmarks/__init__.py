"""Public benchmarks: readers of their files, and their protocols. The data itself is licensed and never included."""
