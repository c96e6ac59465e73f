<<<<<<< HEAD
"""Small weights that ship inside the package, and the way to them."""
=======
"""The weights that ship with the package, and the recipes that made them."""
>>>>>>> main
