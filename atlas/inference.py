"""Whether two groups of measurements differ: resampling tests, and the intervals that belong to them.

A test and its interval come from one set of resamples. Each resample is turned into the difference at which
it changes sides (its *turning point*), so that the p-value of every null difference, and the interval of the
differences that are not rejected, are counts of turning points. They cannot contradict each other.

numpy and scipy are imported when a test is made; the host's extra `hypotheses` brings them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from atlas.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MINIMUM", "RESAMPLES", "Inversion", "Sample", "Test", "invert", "smallest_p", "untestable"]

Test = Literal["permutation", "bootstrap"]

RESAMPLES = 19_999
"""Resamples of a test. All permutations are taken instead where there are no more than these; else a
p-value of 0.05 has a Monte Carlo standard error of 0.0015."""

MINIMUM: dict[Test, int] = {"permutation": 2, "bootstrap": 6}
"""Values a side, or pairs, below which a test is not made; of fewer, a bootstrap draws too often only one."""

_TIE = 1e-12


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@frozen
class Sample:
    """What is compared: two independent groups, or pairs.

    Attributes:
        group: Values of the group, `[n]`.
        against: Values that it is held against, `[m]`; in the order of their partners where `paired`.
        paired: Whether the i-th values of both belong together, and then `n == m`.
    """

    group: tuple[float, ...] = field(converter=_floats)
    against: tuple[float, ...] = field(converter=_floats)
    paired: bool = False

    @property
    def effect(self) -> float | None:
        """Mean of the group minus mean of what it is held against; None where one of them is empty."""
        if not self.smallest:
            return None
        return math.fsum(self.group) / len(self.group) - math.fsum(self.against) / len(self.against)

    @property
    def smallest(self) -> int:
        """Values on the smaller side, or pairs."""
        return min(len(self.group), len(self.against))


@frozen
class Inversion:
    """A test of every null difference at once.

    Attributes:
        points: Turning points, sorted, `[N]`, in the unit of the values.
        always: Resamples as extreme as the data whatever the null difference; the data count themselves.
        tie: Differences closer than this are equal, since sums are rounded.
    """

    points: np.ndarray[Any, np.dtype[np.float64]] = field(repr=False, eq=False)
    always: int
    tie: float

    @property
    def total(self) -> int:
        """Resamples, the data among them."""
        return self.always + len(self.points)

    def p_greater(self, null: float) -> float:
        """Return the p-value of "the difference is at most `null`"."""
        beyond = int(self.points.searchsorted(null + self.tie, side="right"))
        return (self.always + beyond) / self.total

    def p_less(self, null: float) -> float:
        """Return the p-value of "the difference is at least `null`"."""
        beyond = len(self.points) - int(self.points.searchsorted(null - self.tie, side="left"))
        return (self.always + beyond) / self.total

    def low(self, alpha: float) -> float | None:
        """Return the least difference that is not rejected upwards at `alpha`: `p_greater` below is <= alpha.

        None where the resamples are too few to reject anything at that level.
        """
        spare = self._spare(alpha)
        return None if spare < 0 else float(self.points[spare]) - self.tie

    def high(self, alpha: float) -> float | None:
        """Return the largest difference that is not rejected downwards at `alpha`, or None as `low` does."""
        spare = self._spare(alpha)
        return None if spare < 0 else float(self.points[-1 - spare]) + self.tie

    def _spare(self, alpha: float) -> int:
        return math.floor(alpha * self.total * (1 + _TIE)) - self.always


def smallest_p(sample_sizes: tuple[int, int], *, paired: bool, test: Test) -> float:
    """Return the smallest one-sided p-value that samples of these sizes can give."""
    count = RESAMPLES + 1
    if test == "permutation":
        first, second = sample_sizes
        count = min(count, 2**first if paired else math.comb(first + second, first))
    return 1.0 / count


def untestable(sample: Sample, test: Test) -> str | None:
    """Return why a test says nothing about a sample: too few values, or none that vary; else None."""
    if sample.smallest < MINIMUM[test]:
        what = "pairs" if sample.paired else "values on each side"
        return f"a {test} test needs {MINIMUM[test]} {what}, there are {sample.smallest}"
    if sample.paired:
        varying = [{x - y for x, y in zip(sample.group, sample.against, strict=True)}]
    else:
        varying = [set(sample.group), set(sample.against)]
    if test == "bootstrap" and all(len(values) == 1 for values in varying):
        return "a bootstrap test needs values that vary, and these are equal"
    return None


def invert(sample: Sample, test: Test, generator: np.random.Generator) -> Inversion:
    """Draw the resamples of a test and return it for every null difference.

    Permutation: under the null difference d, labels of the groups (signs of the pairs' differences) are
    exchangeable after d was taken off the group. The mean difference of a relabelling is then linear in d, so
    it overtakes the data's at one d (Tritchler 1984, "On inverting permutation tests"). Bootstrap: the
    studentised difference of means (Efron 1981's bootstrap-t), which inverts in the same way.

    Raises:
        BadInput: scipy is not installed, or the sample is `untestable`.
    """
    reason = untestable(sample, test)
    if reason is not None:
        raise BadInput(reason)
    try:
        import numpy as np
        import scipy.stats  # noqa: F401
    except ImportError as error:
        raise BadInput(
            "hypotheses are tested with scipy, which is not installed",
            fix='pip install "atlas-host[hypotheses]"',
        ) from error
    group, against = np.asarray(sample.group, float), np.asarray(sample.against, float)
    tie = _TIE * float(max(abs(group).max(), abs(against).max()))
    values = (group - against,) if sample.paired else (group, against)
    turn = _permuted if test == "permutation" else _bootstrapped
    points, always = turn(values, generator)
    return Inversion(np.sort(points), always, tie)


def _permuted(values: tuple[Any, ...], generator: np.random.Generator) -> tuple[Any, int]:
    import numpy as np
    from scipy.stats import permutation_test

    # Beside the values goes what a unit of the null difference adds to them, through the same relabellings.
    slopes = (np.ones_like(values[0]), *(np.zeros_like(other) for other in values[1:]))
    stacked = tuple(np.stack(pair) for pair in zip(values, slopes, strict=True))
    drawn = permutation_test(
        stacked,
        _difference,
        permutation_type="samples" if len(values) == 1 else "independent",
        vectorized=True,
        n_resamples=RESAMPLES,
        axis=-1,
        random_state=generator,
    )
    effect, slope = drawn.null_distribution[:, 0], drawn.null_distribution[:, 1]
    moves = slope < 1 - _TIE
    first = len(values[0])
    every = 2**first if len(values) == 1 else math.comb(first + len(values[1]), first)
    itself = 0 if every <= RESAMPLES else 1  # all relabellings hold the data's own, drawn ones do not
    points = (drawn.statistic[0] - effect[moves]) / (1 - slope[moves])
    return points, int((~moves).sum()) + itself


def _difference(*values: Any, axis: int = -1) -> Any:
    first = values[0].mean(axis=axis)
    return first if len(values) == 1 else first - values[1].mean(axis=axis)


def _bootstrapped(values: tuple[Any, ...], generator: np.random.Generator) -> tuple[Any, int]:
    import numpy as np
    from scipy.stats import bootstrap

    def error(*drawn: Any, axis: int = -1) -> Any:
        return np.sqrt(sum(part.var(axis=axis, ddof=1) / part.shape[axis] for part in drawn))

    effect, spread = float(_difference(*values)), float(error(*values))

    def studentised(*drawn: Any, axis: int = -1) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (_difference(*drawn, axis=axis) - effect) / error(*drawn, axis=axis)

    drawn = bootstrap(
        values,
        studentised,
        n_resamples=RESAMPLES,
        vectorized=True,
        method="percentile",
        random_state=generator,
    ).bootstrap_distribution
    known = np.isfinite(drawn)  # a resample of equal values has no error; it counts against the data
    return effect - spread * drawn[known], 1 + int((~known).sum())
