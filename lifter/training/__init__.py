"""Training data, losses, training and evaluation of lifters."""
