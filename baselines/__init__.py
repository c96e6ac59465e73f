"""Baselines: captioners beside SCA, each behind the package's public protocol."""
