"""Damaged inputs for every reader of files that may come from others: `python tests/fuzz/run.py`."""
