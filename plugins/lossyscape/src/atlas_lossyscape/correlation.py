"""Rank correlation with a bootstrap interval, alone and against a control by the tokens' rarity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen
from scipy.stats import rankdata

__all__ = ["Correlation", "RarityControl", "partial_spearman", "rarity_control", "spearman"]

_Floats = npt.NDArray[np.float64]

_FEWEST = 5
"""Fewer pairs make no interval worth its name."""


@frozen
class Correlation:
    """Spearman's rho with its 95% percentile interval.

    Attributes:
        rho: The correlation.
        low: Lower end.
        high: Upper end.
        count: Pairs.
    """

    rho: float
    low: float
    high: float
    count: int


@frozen
class RarityControl:
    """A correlation and what is left of it once rarity is accounted for; None where ranks do not differ.

    Attributes:
        all: Over all tokens.
        frequent: Among the more frequent half.
        rare: Among the rarer half.
        partial: Over all, rarity's rank partialled out.
    """

    all: Correlation | None
    frequent: Correlation | None
    rare: Correlation | None
    partial: Correlation | None


def _pearson(x: _Floats, y: _Floats) -> _Floats:
    """Return the correlation of each row of `[R, n]`, NaN where a row is constant."""
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scale = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (x * y).sum(1) / scale, np.nan)


def _rho(x: _Floats, y: _Floats, z: _Floats | None) -> _Floats:
    ranks = [rankdata(values, axis=1) for values in (x, y)]
    plain = _pearson(*ranks)
    if z is None:
        return plain
    third = rankdata(z, axis=1)
    xz, yz = _pearson(ranks[0], third), _pearson(ranks[1], third)
    left = (1 - xz**2) * (1 - yz**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(left > 1e-12, (plain - xz * yz) / np.sqrt(left), np.nan)


def _resampled(
    x: _Floats, y: _Floats, z: _Floats | None, rng: np.random.Generator, resamples: int
) -> Correlation | None:
    count = len(x)
    if count < _FEWEST:
        return None
    observed = float(_rho(x[None], y[None], None if z is None else z[None])[0])
    if not np.isfinite(observed):
        return None
    picks = rng.integers(count, size=(resamples, count))
    again = _rho(x[picks], y[picks], None if z is None else z[picks])
    low, high = np.quantile(again[np.isfinite(again)], [0.025, 0.975])
    return Correlation(observed, float(low), float(high), count)


def spearman(
    x: _Floats, y: _Floats, rng: np.random.Generator, *, resamples: int = 1000
) -> Correlation | None:
    """Return Spearman's rho of `[n]` and `[n]`, resampling pairs; None below five pairs or without ranks."""
    return _resampled(x, y, None, rng, resamples)


def partial_spearman(
    x: _Floats, y: _Floats, z: _Floats, rng: np.random.Generator, *, resamples: int = 1000
) -> Correlation | None:
    """Return the partial rank correlation of x and y given z, resampling triples."""
    return _resampled(x, y, z, rng, resamples)


def rarity_control(
    x: _Floats, y: _Floats, rarity: _Floats, rng: np.random.Generator, *, resamples: int = 1000
) -> RarityControl:
    """Correlate x and y over all, within the frequent and the rare half, and with rarity partialled out.

    Args:
        x: `[n]`.
        y: `[n]`.
        rarity: Grows with rarity, `[n]`; only its ranks matter. The halves are divided at its median.
        rng: Draws the resamples.
        resamples: How many.
    """
    rare = rarity > np.median(rarity)
    return RarityControl(
        all=spearman(x, y, rng, resamples=resamples),
        frequent=spearman(x[~rare], y[~rare], rng, resamples=resamples),
        rare=spearman(x[rare], y[rare], rng, resamples=resamples),
        partial=partial_spearman(x, y, rarity, rng, resamples=resamples),
    )
