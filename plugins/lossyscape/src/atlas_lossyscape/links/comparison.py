"""When one measured quantity lies clearly above another, and when it is high relative to several.

Each quantity becomes a range: hard where its uncertainty is a bound, else a 95% interval. Hard parts of a
difference add up; intervals combine by the method of variance estimates recovery (Zou and Donner 2008,
Statistics in Medicine 27, equation 6), which keeps asymmetric ends. So a difference of equal quantities is
called clear, to one side, in at most 2.5 of 100 measurements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from atlas.quantities import Quantity, UncertaintyKind

__all__ = ["Difference", "Relation", "Side", "difference", "reach", "relation", "unusable"]

Side = Literal["above", "below", "open"]
Relation = Literal["high", "low", "within", "undetermined"]

_NORMAL_95 = 1.96


@frozen
class Difference:
    """A value less another, and the range in which the true difference lies."""

    value: float
    low: float
    high: float

    @property
    def side(self) -> Side:
        """`above` or `below` where the range leaves out zero, else `open`."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "open"


@frozen
class _Range:
    value: float
    below: float
    above: float
    hard: float


def unusable(quantity: Quantity) -> str | None:
    """Return why a quantity cannot be compared, or None."""
    kind = quantity.uncertainty_kind
    if kind is UncertaintyKind.UNDEFINED:
        return f"undefined: {quantity.note}"
    if kind is UncertaintyKind.UNCERTIFIED:
        return "its method states no error"
    if kind is UncertaintyKind.RESIDUAL_BOUND and not quantity.converged:
        return "not converged: a bound holds for some eigenvalue, not for this one"
    return None


def reach(quantity: Quantity) -> tuple[float, float]:
    """Return how far the bound or 95% interval of a usable quantity reaches below and above its value."""
    span = _range(quantity, magnitude=False)
    return max(span.hard, span.below), max(span.hard, span.above)


def difference(quantity: Quantity, other: Quantity, *, magnitude: bool = False) -> Difference:
    """Return `quantity - other`, of magnitudes where asked; both must be usable."""
    a, b = _range(quantity, magnitude), _range(other, magnitude)
    value, hard = a.value - b.value, a.hard + b.hard
    return Difference(
        value,
        value - hard - math.hypot(a.below, b.above),
        value + hard + math.hypot(a.above, b.below),
    )


def relation(sides: Sequence[Side], share: float) -> Relation:
    """Return `high` if at least `share` of the comparisons are `above`, `low` likewise, else `within`."""
    if not sides:
        return "undetermined"
    needed = share * len(sides)
    return "high" if sides.count("above") >= needed else "low" if sides.count("below") >= needed else "within"


def _range(quantity: Quantity, magnitude: bool) -> _Range:
    value, error = quantity.value, quantity.uncertainty
    if value is None or error is None:
        raise ValueError(f"{quantity.quantity} has no value or no error and cannot be compared")
    below = above = error
    if quantity.low is not None and quantity.high is not None:
        below, above = value - quantity.low, quantity.high - value
    if magnitude and value < 0:
        value, below, above = -value, above, below
    kind = quantity.uncertainty_kind
    if kind is UncertaintyKind.RESIDUAL_BOUND:
        return _Range(value, 0.0, 0.0, max(below, above))
    if kind is UncertaintyKind.STANDARD_ERROR and quantity.low is None:
        below, above = _NORMAL_95 * error, _NORMAL_95 * error
    return _Range(value, below, above, 0.0)
