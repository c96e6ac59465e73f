"""Text decoders: causal language models after a prefix of embeddings."""
