"""Where and how networks run: devices, CUDA graphs, batches, threads, precision."""
