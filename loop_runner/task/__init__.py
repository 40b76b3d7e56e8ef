"""TODO task."""
