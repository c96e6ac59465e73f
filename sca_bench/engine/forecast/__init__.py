"""What a plan will take, from figures measured or counted elsewhere. No torch."""
