"""Pictures of the harmonics experiment: roots, deviations from the prediction, and both sweeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from atlas_pyhessian.pictures.style import OPEN

from atlas.figures import INK, PALETTE, encode, style
from atlas_lossyscape.harmonics.modes import Optimizer, Rule, mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_deviations", "draw_roots", "draw_sweeps"]

Row = Mapping[str, Any]

_MARKS: dict[str, tuple[str, str]] = {
    "gd": ("X", PALETTE[6]),
    "heavy-ball": ("o", PALETTE[0]),
    "nesterov": ("s", PALETTE[1]),
    "adam": ("^", PALETTE[2]),
}
_NAMES = {"gd": "gradient descent", "heavy-ball": "heavy ball", "nesterov": "Nesterov", "adam": "Adam"}
_RULES: tuple[Rule, ...] = ("gd", "heavy-ball", "nesterov", "adam")
_FINE = 0.01
"""Deviations below this percentage are drawn on a linear scale."""


def draw_roots(rows: Sequence[Row], momentum: float, *, kind: str = "svg") -> bytes:
    """Draw the observed roots on the curves along which the rules move them, up to their edge at -1.

    Args:
        rows: Of the table `harmonics-comparison`.
        momentum: Of all rules but gradient descent.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        angle = np.linspace(0, math.pi, 200)
        axes.plot(np.cos(angle), np.sin(angle), color=OPEN, lw=0.8, label="edge of stability, |z| = 1")
        for rule, style_of in (("heavy-ball", "-"), ("nesterov", "--")):
            taken = Optimizer("nesterov" if rule == "nesterov" else "heavy-ball", 1.0, momentum)
            shares = np.concatenate([np.geomspace(1e-5, 0.02, 300), np.linspace(0.02, 1, 8000)])
            roots = np.array([mode(taken, share * taken.edge).roots[0] for share in shares])
            name = "heavy ball, Adam" if rule == "heavy-ball" else "Nesterov"
            color = _MARKS[rule][1]
            axes.plot(
                roots.real, np.abs(roots.imag), style_of, color=color, lw=1.2, label=f"predicted: {name}"
            )
        for rule in _RULES:
            mark, color = _MARKS[rule]
            some = [row for row in rows if row["rule"] == rule and row["resolved"]]
            for row in some:
                _root(axes, row, mark, color)
            if some:
                axes.plot([], [], mark, ms=5, mfc="none", color=color, label=f"observed: {_NAMES[rule]}")
        axes.set(xlabel="real part of the root z", ylabel="imaginary part", ylim=(-0.04, 1.04))
        axes.set_aspect("equal")
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        return encode(figure, kind)


def _root(axes: Axes, row: Row, mark: str, color: str) -> None:
    """Draw z = exp(-damping + i frequency), its errors along the circle and along the radius."""
    size, turn = (
        math.exp(-row["observed_damping"]),
        complex(math.cos(row["observed"]), math.sin(row["observed"])),
    )
    root = size * turn
    for step in (1.96 * row["standard_error"] * 1j, 1.96 * row["damping_error"]):
        ends = np.array([root * (1 - step), root * (1 + step)])
        axes.plot(ends.real, ends.imag, color=color, lw=0.8)
    axes.plot(root.real, root.imag, mark, ms=5, mfc="none", color=color)


def draw_deviations(rows: Sequence[Row], *, allowed: float, kind: str = "svg") -> bytes:
    """Draw how far each observed frequency lies from its prediction, with 95% error bars.

    Args:
        rows: Of the table `harmonics-comparison`.
        allowed: Relative deviation that counts as agreement, drawn as a band.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    with style():
        figure = Figure(figsize=(8.5, 4.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        held = [row["leg"].startswith("edge-") for row in rows]
        for axes, edge, title in ((panels[0], False, "Below the edge"), (panels[1], True, "At the edge")):
            axes.axhspan(-100 * allowed, 100 * allowed, color="#e8eef5", zorder=0)
            axes.axhline(0, color=INK, lw=0.8)
            part = [row for row, at in zip(rows, held, strict=True) if at is edge]
            for rule in _RULES:
                mark, color = _MARKS[rule]
                for resolved in (True, False):
                    some = [r for r in part if r["rule"] == rule and r["resolved"] is resolved]
                    axes.errorbar(
                        [r["predicted"] for r in some],
                        [100 * (r["observed"] / r["predicted"] - 1) for r in some],
                        yerr=[196 * r["standard_error"] / r["predicted"] for r in some],
                        fmt=mark,
                        ms=4.5,
                        color=color if resolved else OPEN,
                        mfc="none",
                        lw=0.9,
                        capsize=2,
                        label=(_NAMES[rule] if resolved else "not resolved") if some else None,
                    )
            axes.set_yscale("symlog", linthresh=_FINE, linscale=0.6)
            axes.set_yticks([-100, -10, -1, -0.1, 0, 0.1, 1, 10, 100])
            axes.yaxis.set_major_formatter(
                FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\u2212"))
            )
            axes.set_xlim(0, 3.25)
            axes.set_xlabel("predicted frequency, rad/step")
            axes.set_title(title, loc="left")
        panels[0].set_ylabel("observed less predicted, %")
        ends = [row for row in rows if row["both_ends"] is not None]
        panels[1].plot(
            [row["predicted"] for row in ends],
            [100 * (row["both_ends"] / row["predicted"] - 1) for row in ends],
            "+",
            ms=7,
            color=INK,
            label="predicted by both ends of the swing",
        )
        entries: dict[str, Any] = {}
        for axes in panels:
            handles, names = axes.get_legend_handles_labels()
            entries |= dict(zip(names, handles, strict=True))
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=3, frameon=False
        )
        return encode(figure, kind)


def draw_sweeps(rows: Sequence[Row], eigenvalue: float, *, kind: str = "svg") -> bytes:
    """Draw gain and growth against the drive's frequency, and where the literal condition puts the peak.

    Args:
        rows: Of the table `harmonics-sweep`.
        eigenvalue: Of the driven mode.
        kind: `svg` or `png`.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(8.5, 3.6), layout="constrained")
        for axes, drive, label, title in zip(
            figure.subplots(1, 2),
            ("order", "rate"),
            ("gain", "growth of the swing a step"),
            ("Order of batches", "Cyclic rate"),
            strict=True,
        ):
            part = sorted((row for row in rows if row["drive"] == drive), key=lambda row: row["frequency"])
            x = [row["frequency"] for row in part]
            axes.plot(x, [row["predicted"] for row in part], color=PALETTE[0], lw=1.2, label="predicted")
            axes.errorbar(
                x,
                [row["measured"] for row in part],
                yerr=[1.96 * row["standard_error"] for row in part],
                fmt="o",
                ms=3.5,
                mfc="none",
                color=PALETTE[1],
                capsize=2,
                label="measured, 95%",
            )
            axes.axvline(eigenvalue, color=INK, ls=":", label="literal: frequency = eigenvalue")
            axes.set(xlabel="frequency of the drive, rad/step", ylabel=label)
            axes.set_title(title, loc="left")
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
        )
        return encode(figure, kind)
