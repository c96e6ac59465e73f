"""Scores of captions, with signatures and intervals. No torch here."""
