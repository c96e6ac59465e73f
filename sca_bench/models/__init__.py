"""Region captioners assembled from injected parts."""
