"""Readers, preprocessing and datasets: annotation files and images in, `RegionBatch`es out."""
