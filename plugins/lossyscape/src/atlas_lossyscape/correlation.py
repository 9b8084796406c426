"""Rank correlation with its interval: alone, with rarity partialled out, and of matched differences.

The interval is that of Fisher's transformation with the variance `(1 + rho^2 / 2) / (n - 3)` of Bonett and
Wright (2000, Psychometrika 65, 23-28), one degree of freedom less for each variable partialled out.

A pair's difference is free of what both tokens share. Token and control can change places, so that the
differences have no mean by themselves: each counts with either sign, and their Spearman correlation needs
one degree of freedom less. What the pair's tokens still differ by in rarity and position is taken off by
least squares (Abadie and Imbens 2011), one degree of freedom for each of the two.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen
from scipy.stats import rankdata

from atlas_lossyscape.matching import Matching

__all__ = ["Correlation", "matched_spearman", "partial_spearman", "spearman"]

_Floats = npt.NDArray[np.float64]

_NORMAL_95 = 1.959963984540054


@frozen
class Correlation:
    """Spearman's rho with its 95% interval.

    Attributes:
        rho: The correlation.
        low: Lower end.
        high: Upper end.
        count: Tokens, or pairs of them.
    """

    rho: float
    low: float
    high: float
    count: int


def spearman(x: _Floats, y: _Floats) -> Correlation | None:
    """Return Spearman's rho of `[n]` and `[n]`; None below five, or where a side is constant."""
    return _bounded(_pearson(rankdata(x), rankdata(y)), len(x), 3)


def partial_spearman(x: _Floats, y: _Floats, z: _Floats) -> Correlation | None:
    """Return the partial rank correlation of x and y given z; None as `spearman`, or where z tells all."""
    a, b, c = rankdata(x), rankdata(y), rankdata(z)
    xy, xz, yz = _pearson(a, b), _pearson(a, c), _pearson(b, c)
    left = (1 - xz**2) * (1 - yz**2)
    return _bounded((xy - xz * yz) / np.sqrt(left) if left > 1e-12 else np.nan, len(x), 4)


def matched_spearman(
    x: _Floats, y: _Floats, matching: Matching, pairs: slice = slice(None)
) -> Correlation | None:
    """Return Spearman's rho of the differences within pairs of x and y, `[n]` each.

    Args:
        x: Of all tokens.
        y: Of all tokens.
        matching: The pairs.
        pairs: Which of them; they go from frequent to rare.
    """
    stimulus, control = matching.stimulus[pairs], matching.control[pairs]
    gaps = matching.gaps[pairs]
    if len(stimulus) < _fewest(4):
        return None
    sides = []
    for values in (x, y):
        apart = values[stimulus] - values[control]
        sides.append(apart - gaps @ np.linalg.lstsq(gaps, apart, rcond=None)[0])
    ranks = [rankdata(np.concatenate([apart, -apart])) for apart in sides]
    return _bounded(_pearson(*ranks), len(stimulus), 4)


def _fewest(lost: int) -> int:
    return lost + 2


def _pearson(x: _Floats, y: _Floats) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale > 0 else np.nan


def _bounded(rho: float, count: int, lost: int) -> Correlation | None:
    """Return a correlation with its interval; None where it is undefined or there are too few."""
    if count < _fewest(lost) or not np.isfinite(rho):
        return None
    rho = float(np.clip(rho, -1.0, 1.0))
    centre = np.arctanh(min(abs(rho), 1 - 1e-9)) * np.sign(rho)
    reach = _NORMAL_95 * np.sqrt((1 + rho * rho / 2) / (count - lost))
    return Correlation(rho, float(np.tanh(centre - reach)), float(np.tanh(centre + reach)), count)
