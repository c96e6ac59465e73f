"""Contracts of captioners: of any, of those that a `VariantSpec` describes, and of designs."""
