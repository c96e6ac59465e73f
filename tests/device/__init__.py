"""CUDA rehearsed without a GPU: a make-believe device, and what has to hold on it."""
