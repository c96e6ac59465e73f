"""Weights of others: looked through before torch or transformers takes memory for them."""
