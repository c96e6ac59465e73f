"""Tables, plots and the gallery, from records alone. No torch here."""
