"""Verifiers that a package adds, for tests: plain ones, one that asks a model, and hostile ones."""
