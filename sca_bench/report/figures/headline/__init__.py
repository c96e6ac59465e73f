"""The figure that answers a suite's question."""
