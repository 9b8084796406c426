"""Pictures of potential and tension, drawn from tables alone, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlas_pyhessian.pictures.style import NEGATIVE, OPEN, POSITIVE

from atlas.figures import INK, PALETTE, encode, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_descent", "draw_floors", "draw_tension", "draw_tokens"]

Row = Mapping[str, Any]

_FLOORS = (
    ("newton", "certified pairs", "o", PALETTE[0]),
    ("newton_krylov", "all positive Ritz pairs", "s", PALETTE[1]),
    ("descent", "descent, carried out", "D", PALETTE[2]),
    ("noise_floor", "noise of the items", "|", INK),
)
_NORMAL_95 = 1.96


def _ends(row: Row, name: str) -> tuple[float, float]:
    """Return how far a floor's error reaches below and above it."""
    value = row[name]
    if name == "newton":
        return value - row["newton_low"], row["newton_high"] - value
    if name == "newton_krylov":
        return row["krylov_bound"], row["krylov_bound"]
    if name == "noise_floor":
        return _NORMAL_95 * row["noise_floor_se"], _NORMAL_95 * row["noise_floor_se"]
    return 0.0, 0.0


def _slices(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row["slice"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def draw_floors(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw how far each slice's loss could fall, by each way, with error bars.

    Args:
        rows: Rows of the table `potential`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(7.2, 1.5 + 0.52 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for offset, (name, label, marker, ink) in enumerate(_FLOORS):
            shown = [(height, row) for height, row in enumerate(rows) if row[name] is not None]
            if not shown:
                continue
            bars = [_ends(row, name) for _, row in shown]
            axes.errorbar(
                [row[name] for _, row in shown],
                [height - 0.24 + 0.16 * offset for height, _ in shown],
                xerr=[[low for low, _ in bars], [high for _, high in bars]],
                fmt=marker,
                markersize=9 if marker == "|" else 5,
                color=ink,
                capsize=3,
                linestyle="none",
                label=label,
            )
        values = [row[n] for row in rows for n, *_ in _FLOORS if row[n] is not None and row[n] > 0]
        if values and max(values) > 30 * min(values):
            axes.set_xscale("symlog", linthresh=max(min(values), max(values) * 1e-4))
        axes.set_xlabel("drop of the loss within reach (nat)")
        _slices(axes, rows)
        figure.legend(frameon=False, loc="outside upper center", ncols=4, fontsize=8.5)
        return encode(figure, kind)


def draw_descent(rows: Sequence[Row], start: float, *, kind: str = "svg") -> bytes:
    """Draw the loss along the descent of one slice, and what the model promised of each step.

    Args:
        rows: Rows of the table `descent` of the slice, at least one.
        start: The loss before the first step.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    losses = [start, *(row["loss"] for row in rows)]
    with style():
        figure = Figure(figsize=(6.4, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.plot(range(len(losses)), losses, "-o", color=POSITIVE, markersize=4.5, label="loss")
        for row, before in zip(rows, losses, strict=False):
            axes.plot(
                [row["step"] - 1, row["step"]],
                [before, before - row["promised"]],
                linestyle=(0, (3, 2)),
                marker="_",
                color=PALETTE[1],
                linewidth=1.0,
                label="promised by the model" if row["step"] == 1 else None,
            )
            if not row["taken"]:
                axes.plot(row["step"], before, "x", color=NEGATIVE, markersize=8)
        axes.set_xlabel("trust-region step")
        axes.set_ylabel("mean loss (nat)")
        axes.set_xticks(range(len(losses)))
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.legend(frameon=False)
        return encode(figure, kind)


def draw_tokens(rows: Sequence[Row], *, kind: str = "svg") -> bytes:
    """Draw each token's curvature against its loss, and the differences of the matched pairs beside it.

    Args:
        rows: Rows of the table `tokens` of one slice, with a curvature each.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    pairs: dict[int, dict[str, Row]] = {}
    for row in rows:
        if row["pair"] is not None:
            pairs.setdefault(row["pair"], {})[row["role"]] = row
    whole = [pair for pair in pairs.values() if len(pair) == 2]
    with style():
        figure = Figure(figsize=(8.0, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for role, ink, marker in (("token", POSITIVE, "o"), ("control", NEGATIVE, "s"), (None, OPEN, "o")):
            own = [row for row in rows if row["role"] == role]
            if own:
                left.scatter(
                    [row["loss"] for row in own],
                    [row["curvature"] for row in own],
                    c=ink,
                    marker=marker,
                    s=22,
                    label=role or "in no pair",
                )
        left.set_xlabel("loss of the token (nat)")
        left.set_ylabel("curvature along its gradient (nat)")
        left.legend(frameon=False, fontsize=8.5)
        right.scatter(
            [pair["token"]["loss"] - pair["control"]["loss"] for pair in whole],
            [pair["token"]["curvature"] - pair["control"]["curvature"] for pair in whole],
            c=INK,
            s=22,
        )
        right.set_xlabel("loss of token less its control (nat)")
        right.set_ylabel("curvature, the same (nat)")
        for axes in (left, right):
            axes.grid(color="#dddddd", linewidth=0.7)
            axes.set_axisbelow(True)
        for line in (right.axhline, right.axvline):
            line(0, color=INK, linewidth=0.8)
        return encode(figure, kind)


def draw_tension(rows: Sequence[Row], thresholds: Mapping[str, float], *, kind: str = "svg") -> bytes:
    """Draw what holds each slice, with error bars and the thresholds that the manifest states.

    Args:
        rows: Rows of the table `tension`.
        thresholds: `curvature`, `share` and `drift`.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = (
        ("relative_curvature", None, "curvature along g,\nof the largest", "curvature"),
        ("top_share", "top_share_se", "share of $|g|^2$ in\nthe top eigenspace", "share"),
        ("drift_top", "drift_top_se", "drift ratio\nwithin it", "drift"),
        ("drift", "drift_se", "drift ratio in\nall directions", None),
    )
    with style():
        figure = Figure(figsize=(8.4, 1.5 + 0.34 * len(rows)), layout="constrained")
        panels = figure.subplots(1, len(columns), sharey=True)
        for axes, (name, error, label, threshold) in zip(panels, columns, strict=True):
            reach = [_NORMAL_95 * (row[error] or 0.0) if error else 0.0 for row in rows]
            axes.errorbar(
                [row[name] for row in rows],
                range(len(rows)),
                xerr=reach,
                fmt="o",
                color=POSITIVE,
                capsize=3,
                markersize=5,
            )
            if threshold is not None:
                axes.axvline(thresholds[threshold], color=NEGATIVE, linewidth=1.0, linestyle=(0, (4, 3)))
            axes.set_xlabel(label)
            axes.margins(x=0.15)
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.ticklabel_format(axis="x", useOffset=False)
            _slices(axes, rows)
        return encode(figure, kind)
