"""Metrics of the caption's own text: matches, coverage, diversity, similarity."""
