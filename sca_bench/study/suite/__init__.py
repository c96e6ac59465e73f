"""What suite and sweep files say: read, checked, resolved into cells."""
