"""The report's section on a training: its pictures, each with its caption."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from atlas.contracts import Fragment
from atlas_topoencoder.figures import step_figures

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]


def render(view: RunView, step: str) -> Fragment:
    """Render a training step."""
    parts = []
    for figure in step_figures(view, step):
        source = base64.b64encode(figure.draw("svg")).decode("ascii")
        image = f'<img src="data:image/svg+xml;base64,{source}" alt="{escape(figure.caption, quote=True)}">'
        parts.append(f"<figure>{image}<figcaption>{escape(figure.caption)}</figcaption></figure>")
    return Fragment("The atlas that was learned", "\n".join(parts))
