"""sca_bench: experiment and ablation benchmarks for region captioning."""

__version__ = "0.1.0"
