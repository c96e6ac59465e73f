"""What a suite needs, and what a plan will take, from figures measured elsewhere. No torch."""
