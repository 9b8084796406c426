"""The spectral density as a histogram: how many eigenvalues lie in each interval, and between what bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen

from atlas_pyhessian.golub1973nodes import Known, count_brackets
from atlas_pyhessian.ubaru2017slq import Quadrature, count_between

__all__ = ["DensityPoint", "density"]


@frozen
class DensityPoint:
    """The density on one interval of a grid.

    Attributes:
        low: Lower edge, included.
        high: Upper edge, excluded but for the last.
        count: Eigenvalues in it, by the nodes of the rules.
        standard_error: Its scatter between probes, divided by the square root of their number.
        count_low: Least number at 95%, with what the steps cannot resolve.
        count_high: Largest number at 95%, likewise.
    """

    low: float
    high: float
    count: float
    standard_error: float
    count_low: float
    count_high: float


def density(rules: Sequence[Quadrature], known: Known, bins: int) -> tuple[DensityPoint, ...]:
    """Return counts on `bins` equal intervals that cover all nodes and known eigenvalues.

    Args:
        rules: One per probe, at least two.
        known: What was taken out of the probes.
        bins: Number of intervals.
    """
    seen = [*known.values, *(node for rule in rules for node in rule.nodes)]
    low, high = min(seen), max(seen)
    width = (high - low) / bins or 1.0
    edges = [low + i * width for i in range(bins)] + [max(high, low + width)]
    open_ended = [-math.inf, *edges[1:-1], math.inf]
    points = []
    for i, bracket in enumerate(count_brackets(rules, known, open_ended)):
        count = count_between(rules, known.values, open_ended[i], open_ended[i + 1])
        points.append(
            DensityPoint(edges[i], edges[i + 1], count.value, count.standard_error, bracket.low, bracket.high)
        )
    return tuple(points)
