"""Means and medians over sessions, with their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from atlas.quantities import Quantity, UncertaintyKind
from atlas.randomness import RandomStreams

__all__ = ["RESAMPLES", "mean_over_sessions", "median_of_sessions", "share_of_sessions"]

RESAMPLES = 10_000
"""Bootstrap samples behind each interval."""

_DRAWN = 4_000_000


def mean_over_sessions(
    name: str, values: Sequence[float], streams: RandomStreams, key: str, unit: str = "1"
) -> Quantity:
    """Return the mean with its 95% percentile bootstrap interval over sessions.

    Sessions are drawn with replacement (Efron and Tibshirani 1993, chapter 13), `RESAMPLES` times, a
    block of samples at a time.

    Args:
        name: Of the quantity.
        values: One a session.
        streams: Draws.
        key: The slice, which also names the draws.
        unit: Of the values.
    """
    import numpy as np

    found = np.asarray(values, dtype=np.float64)
    n = len(found)
    if n == 0:
        return Quantity(
            name,
            None,
            None,
            UncertaintyKind.UNDEFINED,
            num_samples=0,
            slice=key,
            unit=unit,
            note="no session has it",
        )
    if n == 1:
        return Quantity(
            name, float(found[0]), None, UncertaintyKind.UNCERTIFIED, num_samples=1, slice=key, unit=unit,
            note="one session: no interval can be given",
        )  # fmt: skip
    generator = streams.generator("ecm bootstrap", name=f"{name}/{key}")
    block = max(1, _DRAWN // n)
    means = np.concatenate(
        [
            found[generator.integers(n, size=(min(block, RESAMPLES - start), n), dtype=np.int32)].mean(axis=1)
            for start in range(0, RESAMPLES, block)
        ]
    )
    low, high = (float(end) for end in np.percentile(means, [2.5, 97.5]))
    return Quantity(
        name, float(found.mean()), (high - low) / 2, UncertaintyKind.INTERVAL_95, num_samples=n, low=low,
        high=high, slice=key, unit=unit,
    )  # fmt: skip


def median_of_sessions(name: str, values: Sequence[float], key: str) -> Quantity:
    """Return the median with the interval between two of the values that holds it with 95% or more.

    The ends are the k-th smallest and k-th largest value, k the largest number with P(B < k) <= 0.025 for a
    binomial B of n halves; exact for any continuous distribution (David and Nagaraja 2003, section 7.1).
    It needs six values.
    """
    found, n, k, below = sorted(values), len(values), 0, 1
    while 40 * below <= 2**n:
        k += 1
        below += math.comb(n, k)
    middle = statistics.median(found)
    if k == 0:
        return Quantity(
            name, middle, None, UncertaintyKind.UNCERTIFIED, num_samples=n, slice=key,
            note="fewer than six sessions: no 95% interval exists",
        )  # fmt: skip
    low, high = found[k - 1], found[n - k]
    return Quantity(
        name, middle, max(high - middle, middle - low), UncertaintyKind.INTERVAL_95, num_samples=n, low=low,
        high=high, slice=key,
    )  # fmt: skip


def share_of_sessions(name: str, count: int, n: int, key: str, note: str) -> Quantity:
    """Return a share of n sessions with its 95% interval by Wilson (1927), which no count makes empty."""
    if n == 0:
        return Quantity(
            name,
            None,
            None,
            UncertaintyKind.UNDEFINED,
            num_samples=0,
            slice=key,
            note="no session is away from home",
        )
    share, z = count / n, 1.959963984540054
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Quantity(
        name,
        share,
        half,
        UncertaintyKind.INTERVAL_95,
        num_samples=n,
        low=low,
        high=high,
        slice=key,
        note=note,
    )
