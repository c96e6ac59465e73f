"""Baselines: captioners beside SCA, each with the package's public protocol."""
