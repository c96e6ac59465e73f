"""What is done with a finished run: caption, verify, export; and import of others' weights."""
