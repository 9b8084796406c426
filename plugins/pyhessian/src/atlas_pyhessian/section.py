"""The report's section on a curvature step: its pictures, each with its caption."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from atlas.contracts import Fragment
from atlas_pyhessian.figures import StepFigure, matrix_of, step_figures

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]


def _html(figure: StepFigure) -> str:
    source = base64.b64encode(figure.draw("svg")).decode("ascii")
    text = escape(figure.caption, quote=True)
    image = f'<img src="data:image/svg+xml;base64,{source}" alt="{text}">'
    return f"<figure>{image}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def render(view: RunView, step: str) -> Fragment:
    """Render a curvature step."""
    parts, heading = [], ""
    for figure in step_figures(view, step):
        if figure.heading != heading:
            heading = figure.heading
            parts.append(f"<h4>{escape(heading)}</h4>")
        parts.append(_html(figure))
    return Fragment(f"Spectrum of the loss's {matrix_of(view, step)}", "\n".join(parts))
