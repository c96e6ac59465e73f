"""What is left to do, and what its cells share."""
