"""Sweeps: Optuna asks, groups of cells answer."""
