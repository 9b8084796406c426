"""What all pictures share: inks that colour-blind readers tell apart, and bytes without a date."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "NEGATIVE", "OPEN", "PALETTE", "POSITIVE", "Row", "colour", "encode", "number", "style"]

Row = Mapping[str, Any]

POSITIVE, NEGATIVE, OPEN, INK = "#1f5a99", "#b3471d", "#8a8a8a", "#333333"

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


@contextmanager
def style() -> Iterator[None]:
    """Draw in the common style within."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def encode(figure: Figure, kind: str) -> bytes:
    """Return a figure's bytes as `svg` or `png`."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=150)
    return buffer.getvalue()


def colour(row: Row) -> str:
    """Return an eigenvalue's colour: by its sign where it is certified."""
    if not row["converged"]:
        return OPEN
    return POSITIVE if row["eigenvalue"] >= 0 else NEGATIVE


def number(value: float) -> str:
    """Write a number with a true minus sign."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
