"""TODO inside."""
