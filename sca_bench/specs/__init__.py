"""What describes a thing that can be added, and the registries of these; no torch."""
