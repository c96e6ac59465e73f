"""Frozen features, kept on disk and shared by all who read them."""
