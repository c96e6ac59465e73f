"""Reading what runs left behind; what is missing becomes a stated hole."""
