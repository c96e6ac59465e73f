"""Scores of captions against references, each number with a signature; no torch in this room."""
