"""SAM: encoders, prompt encoder, mask decoder, and weights in every layout."""
