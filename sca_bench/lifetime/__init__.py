"""How a command ends when a signal asks for it, and what it must not leave behind."""
