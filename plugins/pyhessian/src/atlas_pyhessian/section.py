"""The report's section on a curvature step: its pictures, each with its caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.contracts import Fragment
from atlas.figures import html
from atlas_pyhessian.figures import matrix_of, step_figures

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]


def render(view: RunView, step: str) -> Fragment:
    """Render a curvature step."""
    return Fragment(f"Spectrum of the loss's {matrix_of(view, step)}", html(step_figures(view, step)))
