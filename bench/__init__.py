"""Measurements, reported as medians; nothing here asserts on seconds."""
