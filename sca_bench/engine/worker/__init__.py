"""One process's work: prepare a frozen prefix, or train and caption one group of cells."""
