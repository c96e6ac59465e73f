"""What this package's image encoders say of themselves, one file each; no torch."""
