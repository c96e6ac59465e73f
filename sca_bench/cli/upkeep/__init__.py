"""Commands that look after a runs folder: what goes on there, what may go, what is kept."""
