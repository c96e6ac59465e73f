"""HTML pages: of one suite, and of all of them."""
