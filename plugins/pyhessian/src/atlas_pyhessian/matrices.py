"""What people call each curvature matrix, by the name that a manifest gives it."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["MATRIX"]

MATRIX: Mapping[str, str] = {
    "hessian": "Hessian",
    "ggn": "Gauss-Newton matrix",
    "empirical_fisher": "empirical Fisher matrix",
}
