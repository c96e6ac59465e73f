"""The field's own scores as metrics: computed over tokens that they share."""
