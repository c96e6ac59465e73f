"""What each thing that can be added says of itself, and the registries of these specs; no torch."""
