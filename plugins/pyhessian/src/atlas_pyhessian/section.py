"""The report's section on a curvature step: pictures and a table, from the sealed tables alone."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment
from atlas_pyhessian.picture import draw_slices, draw_spectrum

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["render"]

Row = Mapping[str, Any]

_SINGLE = 6
"""Slices that get a picture of their own; beyond, the common picture says it all."""


def _image(data: bytes, text: str) -> str:
    source = base64.b64encode(data).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{source}" alt="{escape(text, quote=True)}">'


def _describe(rows: Sequence[Row]) -> str:
    """Say in a sentence what a slice's picture shows, so that it can be read without it."""
    values = ", ".join(f"{row['eigenvalue']:.4g}" for row in rows)
    residuals = [row["relative_residual"] for row in rows if row["relative_residual"] is not None]
    if not residuals:
        return f"Eigenvalues {values}, from an engine that states no error."
    worst = f"largest verified residual {max(residuals):.1e} of the largest magnitude"
    missed = sum(not row["converged"] for row in rows)
    state = f"; {missed} did not reach the tolerance (open circles)" if missed else ""
    drawn = ", drawn to scale and mostly smaller than the marks" if max(residuals) < 0.02 else ""
    return f"Eigenvalues {values}; {worst}{drawn}{state}."


def _figure(data: bytes, caption: str) -> str:
    return f"<figure>{_image(data, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _slice_figures(key: str, rows: Sequence[Row], points: Sequence[Row], *, alone: bool) -> str:
    caption = _describe(rows)
    if points:
        caption += (
            " Right: how many eigenvalues lie in each interval, with the certified ones as ticks below; a"
            " column is cut at 0.3 of an eigenvalue."
        )
    title = "" if alone else f"<h4>{escape(key)}</h4>"
    return title + _figure(draw_spectrum(rows, points), caption)


def render(view: RunView, step: str) -> Fragment:
    """Render a curvature step."""
    tables = view.tables(step)
    spectrum: list[Row] = list(tables["spectrum"])
    density: list[Row] = list(tables.get("density", []))
    keys = list(dict.fromkeys(row["slice"] for row in spectrum))
    parts = []
    if len(keys) > 1:
        caption = (
            f"Eigenvalues of {len(keys)} slices on one scale; blue above zero, orange below, open circles"
            " where no certificate was reached."
        )
        parts.append(_figure(draw_slices(spectrum), caption))
    if len(keys) <= _SINGLE:
        for key in keys:
            rows = [row for row in spectrum if row["slice"] == key]
            points = [row for row in density if row["slice"] == key]
            parts.append(_slice_figures(key, rows, points, alone=len(keys) == 1))
    return Fragment("Spectrum of the loss Hessian", "\n".join(parts))
