"""TODO git."""
