"""From a `RegionSet` to batches of tensors."""
