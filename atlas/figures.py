"""Pictures of steps: how they look, how they stand in a page, and how they are written as files.

What draws imports matplotlib, when it draws; a plugin with pictures depends on it itself.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from atlas.errors import BadInput
from atlas.governance import interpretation_closed

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from atlas.record import RunView

__all__ = ["INK", "PALETTE", "Figure", "encode", "html", "picture", "style", "write_figures"]

INK = "#333333"
"""Of axes, labels and what is neither one thing nor the other."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito 2008, for lines that are told apart; markers differ besides."""

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "atlas",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@frozen
class Figure:
    """A picture of a step.

    Attributes:
        name: Stem of its file's name.
        caption: What it shows, so that it can be read without it.
        draw: Returns its bytes as `svg` or `png`.
        heading: What it is about; figures in a row with one heading stand under it together.
    """

    name: str
    caption: str
    draw: Callable[[str], bytes]
    heading: str = ""


@contextmanager
def style() -> Iterator[None]:
    """Draw in the common style within."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def encode(drawing: Drawing, kind: str) -> bytes:
    """Return a drawing's bytes as `svg` or `png`, without a date."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    drawing.savefig(buffer, format=kind, metadata=metadata, dpi=150)
    return buffer.getvalue()


def picture(svg: bytes, caption: str) -> str:
    """Return one picture with its caption as a part of a page."""
    source, text = base64.b64encode(svg).decode("ascii"), escape(caption, quote=True)
    image = f'<img src="data:image/svg+xml;base64,{source}" alt="{text}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def html(figures: Iterable[Figure]) -> str:
    """Return figures with their headings and captions as a part of a page, the pictures within it."""
    parts, heading = [], ""
    for figure in figures:
        if figure.heading != heading:
            heading = figure.heading
            parts.append(f"<h4>{escape(heading)}</h4>")
        parts.append(picture(figure.draw("svg"), figure.caption))
    return "\n".join(parts)


def write_figures(
    view: RunView,
    instrument: str,
    figures: Callable[[RunView, str], Iterable[Figure]],
    kind: str,
    folder: Path,
) -> Iterator[tuple[Path, Figure]]:
    """Write the pictures of an instrument's finished steps, and yield each with its path.

    Args:
        view: The run.
        instrument: Whose steps.
        figures: Returns a step's pictures.
        kind: `svg` or `png`.
        folder: Where to; it is made.

    Raises:
        BadInput: The run may not be interpreted yet, has no such step, or the folder cannot be written.
    """
    reason = interpretation_closed(view)
    if reason is not None:
        raise BadInput(
            f"the pictures of {view.run_id} are closed: {reason}", fix=f"atlas status {view.run_id}"
        )
    uses = {step["id"]: step["use"] for step in view.manifest.get("steps", ())}
    steps = [step for step in view.finished_steps() if uses.get(step) == instrument]
    if not steps:
        raise BadInput(f"{view.run_id} has no finished step of {instrument}", fix=f"atlas show {view.run_id}")
    for step in steps:
        for figure in figures(view, step):
            path = folder / f"{view.run_id}-{step}-{figure.name}.{kind}"
            data = figure.draw(kind)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            except OSError as error:
                raise BadInput(f"cannot be written: {error.strerror or error}", where=str(path)) from error
            yield path, figure
