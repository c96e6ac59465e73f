"""What a plan takes, measured or counted with torch, in a process of its own."""
