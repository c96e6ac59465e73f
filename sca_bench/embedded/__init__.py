"""Small weights that ship inside the package, and the way to them."""
