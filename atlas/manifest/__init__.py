"""Manifests: reading, resolving, expanding and planning them."""
