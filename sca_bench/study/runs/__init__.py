"""The runs folder: what is on disk about runs and suites."""
