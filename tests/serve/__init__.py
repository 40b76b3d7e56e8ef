"""The HTTP service, by real clients over real sockets; runs are real processes with scripted models."""
