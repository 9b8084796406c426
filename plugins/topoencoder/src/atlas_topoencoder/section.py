"""The report's section on a training: its pictures, each with its caption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas.contracts import Fragment
from atlas.figures import html
from atlas_topoencoder.figures import step_figures

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]


def render(view: RunView, step: str) -> Fragment:
    """Render a training step."""
    return Fragment("The atlas that was learned", html(step_figures(view, step)))
