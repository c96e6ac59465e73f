"""Data sets: readers that yield a `RegionSet` (no torch), and the torch data set over one.

`load.load_split` is the door to the readers, `dataset.RegionDataset` to tensors.
"""
