"""A split as arrays on disk, which opens at once. No torch."""
