"""Suites, cells, plans and records: what is asked and what is known. No torch here."""
