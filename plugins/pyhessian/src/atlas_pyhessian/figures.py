"""The pictures of a curvature step with what they show in words, from the sealed tables alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas.figures import Figure
from atlas_pyhessian.matrices import MATRIX
from atlas_pyhessian.pictures.blocks import draw_blocks, draw_layers, split_name
from atlas_pyhessian.pictures.path import draw_path
from atlas_pyhessian.pictures.series import TOLD_APART, draw_density_series, draw_series
from atlas_pyhessian.pictures.spectrum import LABELLED, draw_slices, draw_spectrum

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["matrix_of", "step_figures"]

Row = Mapping[str, Any]

_SINGLE = 6
"""Slices that get pictures of their own; beyond, the common picture says it all."""

_MANY_BLOCKS = 60


def matrix_of(view: RunView, step: str) -> str:
    """Return what the step's matrix is called; steps of before there was a choice measured the Hessian."""
    path = f"raw/{step}/facts.json"
    facts = json.loads(view.read(path)) if path in view.artifacts else {}
    return MATRIX[facts.get("operator", "hessian")]


def step_figures(view: RunView, step: str) -> Iterator[Figure]:
    """Yield the pictures of a finished curvature step, those about all slices first."""
    tables, matrix = view.tables(step), matrix_of(view, step)
    spectrum = tables["spectrum"]
    keys = list(dict.fromkeys(row["slice"] for row in spectrum))
    if tables.get("series"):
        yield from _series(tables, matrix)
    if len(keys) > 1:
        caption = (
            f"Eigenvalues of the {matrix} of {len(keys)} slices on one scale; blue above zero, orange below, "
            "open circles where no certificate was reached."
        )
        yield _figure("slices", "", caption, partial(draw_slices, spectrum, matrix=matrix))
    if len(keys) > _SINGLE:
        return
    for key in keys:
        own = {name: [r for r in rows if r.get("slice") == key] for name, rows in tables.items()}
        heading = "" if len(keys) == 1 else key
        yield _spectrum(own, heading, matrix)
        if own.get("blocks"):
            yield from _blocks(own, heading, matrix)
        if own.get("tensors"):
            yield _tensors(own["tensors"], heading, matrix)
        for direction in own.get("directions", ()):
            points = [r for r in own.get("path", ()) if r["direction"] == direction["direction"]]
            if points:
                yield _path(direction, points, heading, matrix)


def _figure(kind: str, heading: str, caption: str, draw: Callable[..., bytes]) -> Figure:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{kind}-{heading}" if heading else kind).strip("-.")
    return Figure(stem, caption, lambda form: draw(kind=form), heading)


def _spectrum(own: Mapping[str, Sequence[Row]], heading: str, matrix: str) -> Figure:
    rows, points = own["spectrum"], own.get("density", ())
    caption = _describe(rows, matrix)
    if points:
        caption += (
            " Right: how many eigenvalues lie in each interval, darker the 95% bounds on that number, with "
            "the certified ones as ticks below; a column is cut at 0.3 of an eigenvalue."
        )
    return _figure("spectrum", heading, caption, partial(draw_spectrum, rows, points, matrix=matrix))


def _describe(rows: Sequence[Row], matrix: str) -> str:
    """Say in a sentence what a slice's picture shows."""
    values = ", ".join(f"{row['eigenvalue']:.4g}" for row in rows[:LABELLED])
    if len(rows) > LABELLED:
        values += f" and {len(rows) - LABELLED} smaller ones"
    residuals = [row["relative_residual"] for row in rows if row["relative_residual"] is not None]
    if not residuals:
        return f"Eigenvalues {values} of the {matrix}, from an engine that states no error."
    worst = f"largest verified residual {max(residuals):.1e} of the largest magnitude"
    missed = sum(not row["converged"] for row in rows)
    state = f"; {missed} did not reach the tolerance (open circles)" if missed else ""
    drawn = ", drawn to scale and mostly smaller than the marks" if max(residuals) < 0.02 else ""
    if len(rows) > LABELLED:
        drawn += ", and below on a scale of its own"
    return f"Eigenvalues {values} of the {matrix}; {worst}{drawn}{state}."


def _blocks(own: Mapping[str, Sequence[Row]], heading: str, matrix: str) -> Iterator[Figure]:
    rows = own["blocks"]
    values = [row["eigenvalue"] for row in own["spectrum"]]
    top = max(rows, key=lambda row: row["lambda_max"])
    missed = sum(not row["converged"] for row in rows)
    state = f" {missed} did not reach the tolerance (open marks)." if missed else ""
    caption = (
        f"{len(rows)} diagonal blocks of the {matrix}. The largest eigenvalue of any is "
        f"{top['lambda_max']:.4g} ± {top['lambda_max_residual']:.1g} nat, in {top['block']}; that of the "
        f"whole is {max(values):.4g}.{state}"
    )
    if all(split_name(row["block"])[0] is not None or len(row["parameters"].split()) == 1 for row in rows):
        tensors = all(row["parameters"] == row["block"] for row in rows)
    else:
        tensors = False
    if tensors and any(split_name(row["block"])[0] is not None for row in rows):
        cells = {r["block"]: (r["lambda_max"], r["lambda_max"] > r["lambda_max_residual"]) for r in rows}
        words = f"{caption} By tensor and layer; a dot where the residual does not tell it from zero."
        label = f"largest eigenvalue of the\ntensor's block of the {matrix} (nat)"
        yield _figure("block-layers", heading, words, partial(draw_layers, cells, label))
    if len(rows) <= _MANY_BLOCKS:
        words = f"{caption} Circles: largest, squares: smallest eigenvalue, with residual bars."
        if any(row["trace"] is not None for row in rows):
            words += " Right: trace with its 95% interval."
        ends = (min(values), max(values))
        yield _figure("blocks", heading, words, partial(draw_blocks, rows, ends, matrix=matrix))


def _tensors(rows: Sequence[Row], heading: str, matrix: str) -> Figure:
    cells = {r["parameter"]: (r["trace"], not r["trace_low"] <= 0 <= r["trace_high"]) for r in rows}
    top = max(rows, key=lambda row: abs(row["trace"]))
    unsure = sum(not told for _, told in cells.values())
    caption = (
        f"Trace of the {matrix} by parameter tensor. The largest is that of {top['parameter']}: "
        f"{top['trace']:.4g} ± {top['standard_error']:.1g} nat (one standard error). A dot marks the "
        f"{unsure} of {len(rows)} whose 95% interval holds zero; orange above zero, violet below."
    )
    label = f"trace of the tensor's block\nof the {matrix} (nat)"
    return _figure("tensors", heading, caption, partial(draw_layers, cells, label))


def _path(direction: Row, points: Sequence[Row], heading: str, matrix: str) -> Figure:
    first, last = points[0], points[-1]
    share = direction["certified_share"]
    caption = (
        f"The loss on the straight way to {direction['direction']}, {direction['distance']:.4g} long, by "
        f"the chosen parameters: {first['loss']:.5g} nat here and {last['loss']:.5g} there, where the "
        f"quadratic model says {last['predicted']:.5g}. Slope {direction['slope']:.3g} and curvature "
        f"{direction['curvature']:.3g} nat by the {matrix}."
    )
    if share is not None:
        caption += f" The certified eigenvectors hold {share:.2%} of the direction's squared length."
    draw = partial(draw_path, direction, points, matrix=matrix)
    return _figure(f"path-{direction['direction']}", heading, caption, draw)


def _series(tables: Mapping[str, Sequence[Row]], matrix: str) -> Iterator[Figure]:
    rows = tables["series"]
    slices = list(dict.fromkeys(row["slice"] for row in rows))
    labels = list(dict.fromkeys(row["label"] for row in rows))
    first, last = rows[0], [row for row in rows if row["slice"] == rows[0]["slice"]][-1]
    caption = (
        f"{len(labels)} checkpoints, {labels[0]} to {labels[-1]}: largest and smallest eigenvalue of the "
        f"{matrix} with residual bars, trace with its 95% interval, and loss. "
        f"The largest eigenvalue goes from {first['lambda_max']:.4g} to {last['lambda_max']:.4g} nat. All "
        "are measured with the same random draws; bars that are not seen are smaller than the marks."
    )
    if len(slices) > TOLD_APART:
        caption += f" One line for each of {len(slices)} slices."
    yield _figure("series", "", caption, partial(draw_series, rows, matrix=matrix))
    if not tables.get("density") or len(slices) > _SINGLE:
        return
    for part in slices:
        own = [row for row in rows if row["slice"] == part]
        keys = [row["label"] if len(slices) == 1 else f"{row['label']}: {part}" for row in own]
        densities = [[r for r in tables["density"] if r["slice"] == key] for key in keys]
        words = (
            f"Spectral density of the {matrix} at each checkpoint, by the number of eigenvalues per nat; "
            "yellow: many, dark blue: few or none, grey: beyond all that was found. The axis is linear "
            "near zero and logarithmic beyond."
        )
        draw = partial(draw_density_series, own, densities, matrix=matrix)
        yield _figure("density-series", "" if len(slices) == 1 else part, words, draw)
