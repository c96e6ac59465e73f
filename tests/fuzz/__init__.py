"""Damaged inputs for every reader of files of others: `python tests/fuzz/run.py`."""
