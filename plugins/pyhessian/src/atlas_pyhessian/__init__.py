"""Curvature of language models: certified spectrum, trace and density of a loss Hessian."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
