"""What became of a hypothesis, in a sentence for a page or a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas.report.numbers import format_number

__all__ = ["describe_effect", "describe_errors"]

Row = Mapping[str, Any]


def describe_effect(row: Row) -> str:
    """Write effect, interval and p-value: `12.3, 95% interval 2.1 to 22.4, p 0.011`."""
    if row["effect"] is None:
        return "nothing to compare"
    unit = "" if row["unit"] in (None, "1") else f" {row['unit']}"
    parts = [f"difference {format_number(row['effect'])}{unit}"]
    if row["coverage"] is not None:
        parts.append(f"{100 * row['coverage']:.4g}% interval {_end(row['low'])} to {_end(row['high'])}")
    if row["smallest_effect"] is not None:
        parts.append(f"what matters begins at {format_number(row['smallest_effect'])}")
    if row["p"] is not None:
        corrected = f" ({row['p_holm']:.3g} after Holm)" if row["p_holm"] is not None else ""
        parts.append(f"p {row['p']:.3g}{corrected}")
        against = f" ({row['p_opposite_holm']:.3g})" if row["p_opposite_holm"] is not None else ""
        parts.append(f"p against it {row['p_opposite']:.3g}{against}")
    return ", ".join(parts)


def describe_errors(row: Row) -> str:
    """Write what the values' own errors mean for the effect, and the note."""
    parts = []
    if row["measurement_bound"] is not None:
        parts.append(
            f"the values' residual bounds could move it by {format_number(row['measurement_bound'])}, "
            f"their standard errors give it one of {format_number(row['measurement_error'])}"
        )
    return "; ".join([*parts, *([row["note"]] if row["note"] else [])]) or "not tested"


def _end(value: float | None) -> str:
    return "no end" if value is None else format_number(value)
