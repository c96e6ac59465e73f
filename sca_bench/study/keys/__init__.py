"""What makes two cells the same cell: content digests and keys."""
