"""Many processes: who starts, what is shared, what a person sees meanwhile."""
