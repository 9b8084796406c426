"""Bundles: what leaves the machine, and how a stranger checks it."""
