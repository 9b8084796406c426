"""Means and medians over sessions, with their intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from atlas.quantities import Quantity, UncertaintyKind
from atlas.randomness import RandomStreams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "RESAMPLES",
    "mean_over_sessions",
    "median_of_sessions",
    "ratio_over_sessions",
    "share_of_sessions",
]

RESAMPLES = 10_000
"""Bootstrap samples behind each interval."""

_DRAWN = 4_000_000


def ratio_over_sessions(name: str, values: Sequence[float], streams: RandomStreams, key: str) -> Quantity:
    """Return the mean of positive, skewed values with its 95% bootstrap-t interval over sessions.

    Each sample's mean is studentised on the scale of its cube root, which takes most of the skewness out, by
    the sample's own standard error there (Efron and Tibshirani 1993, sections 12.5 and 12.6). The interval is
    longer than the percentile interval, which holds too rarely for few sessions; `ecm.interval_*` of the
    benchmarks says how often each holds.

    Args:
        name: Of the quantity.
        values: One a session, none negative.
        streams: Draws.
        key: The slice, which also names the draws.
    """
    import numpy as np

    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return _too_few(name, found, key, "1")
    mean, error = float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found))
    cubed: list[NDArray[np.float64]] = []
    for drawn in _resampled(found, streams, name, key):
        means, errors = drawn.mean(axis=1), drawn.std(axis=1, ddof=1) / math.sqrt(len(found))
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = np.cbrt(means) - np.cbrt(mean)
            ratios = shift * 3 * np.cbrt(means) ** 2 / errors
        cubed.append(np.where(errors > 0, ratios, np.copysign(np.inf, shift)))
    # An order statistic, as some samples may be of equal values and have no standard error.
    low_t, high_t = np.quantile(np.concatenate(cubed), [0.025, 0.975], method="inverted_cdf")
    if error == 0 or not np.isfinite([low_t, high_t]).all():
        return Quantity(
            name, mean, None, UncertaintyKind.UNCERTIFIED, num_samples=len(found), slice=key,
            note="too few different values: no interval can be given",
        )  # fmt: skip
    half = error / (3 * np.cbrt(mean) ** 2)
    low, high = (float(max(0.0, np.cbrt(mean) - t * half) ** 3) for t in (high_t, low_t))
    return Quantity(
        name, mean, (high - low) / 2, UncertaintyKind.INTERVAL_95, num_samples=len(found), low=low,
        high=high, slice=key,
    )  # fmt: skip


def mean_over_sessions(
    name: str, values: Sequence[float], streams: RandomStreams, key: str, unit: str = "1"
) -> Quantity:
    """Return the mean with its 95% percentile bootstrap interval over sessions.

    Sessions are drawn with replacement (Efron and Tibshirani 1993, chapter 13), `RESAMPLES` times.

    Args:
        name: Of the quantity.
        values: One a session.
        streams: Draws.
        key: The slice, which also names the draws.
        unit: Of the values.
    """
    import numpy as np

    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return _too_few(name, found, key, unit)
    means = np.concatenate([drawn.mean(axis=1) for drawn in _resampled(found, streams, name, key)])
    low, high = (float(end) for end in np.percentile(means, [2.5, 97.5]))
    return Quantity(
        name, float(found.mean()), (high - low) / 2, UncertaintyKind.INTERVAL_95, num_samples=len(found),
        low=low, high=high, slice=key, unit=unit,
    )  # fmt: skip


def _too_few(name: str, found: NDArray[np.float64], key: str, unit: str) -> Quantity:
    if len(found) == 0:
        return Quantity(
            name, None, None, UncertaintyKind.UNDEFINED, num_samples=0, slice=key, unit=unit,
            note="no session has it",
        )  # fmt: skip
    return Quantity(
        name, float(found[0]), None, UncertaintyKind.UNCERTIFIED, num_samples=1, slice=key, unit=unit,
        note="one session: no interval can be given",
    )  # fmt: skip


def _resampled(
    found: NDArray[np.float64], streams: RandomStreams, name: str, key: str
) -> Iterator[NDArray[np.float64]]:
    """Yield the bootstrap samples, `[samples, sessions]`, a block at a time."""
    import numpy as np

    n = len(found)
    generator = streams.generator("ecm bootstrap", name=f"{name}/{key}")
    block = max(1, _DRAWN // n)
    for start in range(0, RESAMPLES, block):
        yield found[generator.integers(n, size=(min(block, RESAMPLES - start), n), dtype=np.int32)]


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
