"""Readers: from files as data sets publish them to a `RegionSet`. No torch."""
