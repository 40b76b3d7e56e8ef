"""TODO repair."""
