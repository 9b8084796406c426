"""Pictures of a report's sections: values on an axis, a row each, as SVG that follows the page's colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from attrs import frozen

__all__ = ["Mark", "Row", "draw"]

_LEFT, _RIGHT, _WIDTH, _HEIGHT, _FOOT = 150, 620, 660, 20, 46


@frozen
class Mark:
    """A value on a row; filled where `strong`, with a bar from `low` to `high` where these are given."""

    value: float
    low: float | None = None
    high: float | None = None
    strong: bool = True


@frozen
class Row:
    """A line of marks with a name before it, and the band behind it where there is one."""

    name: str
    marks: tuple[Mark, ...]
    band: tuple[float, float] | None = None


def draw(rows: Sequence[Row], *, axis: str, reference: float, logarithmic: bool = False) -> str:
    """Return the rows as SVG over one axis, with a line at the reference.

    Args:
        rows: From top to bottom.
        axis: What the axis shows.
        reference: Where the line stands.
        logarithmic: Values are positive and drawn by their logarithm; others are left out.
    """
    scale: Callable[[float], float] = math.log10 if logarithmic else float
    kept = [number for row in rows for number in _numbers(row) if not logarithmic or number > 0]
    ends = [scale(number) for number in (*kept, reference)]
    low, high = min(ends), max(ends)
    margin = (high - low) * 0.04 or 0.5

    def at(number: float) -> float:
        share = (scale(number) - low + margin) / (high - low + 2 * margin)
        return round(_LEFT + share * (_RIGHT - _LEFT), 1)

    bottom = 10 + _HEIGHT * len(rows)
    parts = [
        f'<line x1="{at(reference)}" x2="{at(reference)}" y1="6" y2="{bottom}" '
        'stroke="var(--soft)" stroke-dasharray="3 3"/>',
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{bottom}" y2="{bottom}" stroke="var(--line)"/>',
    ]
    for number in _ticks(low, high, logarithmic):
        x = at(number)
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{bottom}" y2="{bottom + 4}" stroke="var(--soft)"/>'
            f'<text x="{x}" y="{bottom + 17}" text-anchor="middle" fill="var(--soft)">{number:g}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{bottom + 36}" text-anchor="middle" fill="var(--ink)">'
        f"{escape(axis)}</text>"
    )
    for number, row in enumerate(rows):
        parts += _drawn(row, 10 + _HEIGHT * (number + 0.5), at, logarithmic)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + _FOOT}" role="img" '
        f'aria-label="{escape(axis, quote=True)}" font-size="12" font-family="system-ui, sans-serif">'
        f"{''.join(parts)}</svg>"
    )


def _numbers(row: Row) -> Iterator[float]:
    yield from row.band or ()
    for mark in row.marks:
        yield from (number for number in (mark.value, mark.low, mark.high) if number is not None)


def _drawn(row: Row, y: float, at: Callable[[float], float], logarithmic: bool) -> Iterator[str]:
    shown = row.name if len(row.name) <= 22 else f"{row.name[:21]}\u2026"
    yield (
        f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end" fill="var(--ink)">'
        f"<title>{escape(row.name)}</title>{escape(shown)}</text>"
    )
    if row.band is not None and (not logarithmic or min(row.band) > 0):
        left, right = (at(end) for end in row.band)
        yield (
            f'<rect x="{left}" y="{y - 8}" width="{max(right - left, 1):.1f}" height="16" '
            'fill="var(--good)" opacity="0.18"/>'
        )
    for mark in row.marks:
        if logarithmic and mark.value <= 0:
            continue
        if mark.low is not None and mark.high is not None and (not logarithmic or mark.low > 0):
            yield (
                f'<line x1="{at(mark.low)}" x2="{at(mark.high)}" y1="{y}" y2="{y}" '
                'stroke="var(--accent)" stroke-width="2"/>'
            )
        fill = "var(--accent)" if mark.strong else "none"
        yield f'<circle cx="{at(mark.value)}" cy="{y}" r="3.5" fill="{fill}" stroke="var(--accent)"/>'


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic and high - low < 0.7:
        return _ticks(10**low, 10**high, False)
    if logarithmic:
        decades = range(math.floor(low) - 1, math.ceil(high) + 1)
        found = [digit * 10.0**power for power in decades for digit in (1, 2, 5)]
        return [number for number in found if low - 1e-9 <= math.log10(number) <= high + 1e-9][:12]
    span = (high - low) or 1.0
    step = 10.0 ** math.floor(math.log10(span))
    step *= 0.2 if span / step < 2 else 0.5 if span / step < 5 else 1.0
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
