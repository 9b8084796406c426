"""Curvature of any loss: certified spectrum, trace and density of its Hessian and its kin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas_pyhessian.curvature import Curvature

__all__ = ["Curvature", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `Curvature`, and torch with it, when it is first asked for."""
    if name != "Curvature":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from atlas_pyhessian.curvature import Curvature

    return Curvature
