"""Tables, plots and the page of a suite, made of the run records alone; no torch in this room."""
