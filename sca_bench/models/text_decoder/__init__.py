"""Text decoders: causal language models behind a prefix of embeddings."""
