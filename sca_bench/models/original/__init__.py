"""Checkpoints of the original code base: its classes, config and layout."""
