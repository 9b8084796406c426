"""Whether two groups of measurements differ: resampling tests, and the intervals that belong to them.

A test and its interval come from one set of resamples. Each resample is turned into the difference at which
it changes sides (its *turning point*), so that the p-value of every null difference, and the interval of the
differences that are not rejected, are counts of turning points. They cannot contradict each other.

numpy is imported when a test is made; the host's extra `hypotheses` brings it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from atlas.errors import BadInput
from atlas.resampling import RESAMPLES, redrawn, relabelled, signed

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "MINIMUM",
    "RESAMPLES",
    "Inversion",
    "Sample",
    "Test",
    "caution",
    "invert",
    "smallest_p",
    "untestable",
]

Test = Literal["permutation", "bootstrap"]

MINIMUM: dict[Test, int] = {"permutation": 2, "bootstrap": 20}
"""Values a side, or pairs, below which a test is not made; of fewer pairs a bootstrap's level is off."""

_TIE = 1e-12
_FEW, _SKEWED, _UNLIKE = 6, 1.0, 1.5
"""Values a side, skewness and ratio of spreads beyond which a sample is remarked on."""


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
        first: Sorted, `[N]`: for each resample the least null difference at which it is as large as the data.
        last: Sorted, `[N]`: the greatest null difference at which it is as small as the data. Where a
            resample turns but once, as most do, both are one.
        always: Resamples as extreme as the data whatever the null difference; the data count themselves.
        tie: Differences closer than this are equal, since sums are rounded.
    """

    first: np.ndarray[Any, np.dtype[np.float64]] = field(repr=False, eq=False)
    last: np.ndarray[Any, np.dtype[np.float64]] = field(repr=False, eq=False)
    always: int
    tie: float

    @property
    def total(self) -> int:
        """Resamples, the data among them."""
        return self.always + len(self.first)

    def p_greater(self, null: float) -> float:
        """Return the p-value of "the difference is at most `null`"."""
        beyond = int(self.first.searchsorted(null + self.tie, side="right"))
        return (self.always + beyond) / self.total

    def p_less(self, null: float) -> float:
        """Return the p-value of "the difference is at least `null`"."""
        beyond = len(self.last) - int(self.last.searchsorted(null - self.tie, side="left"))
        return (self.always + beyond) / self.total

    def low(self, alpha: float) -> float | None:
        """Return the least difference that is not rejected upwards at `alpha`: `p_greater` below is <= alpha.

        None where the resamples are too few to reject anything at that level.
        """
        spare = self._spare(alpha)
        return None if spare < 0 else float(self.first[spare]) - self.tie

    def high(self, alpha: float) -> float | None:
        """Return the largest difference that is not rejected downwards at `alpha`, or None as `low` does."""
        spare = self._spare(alpha)
        return None if spare < 0 else float(self.last[-1 - spare]) + self.tie

    def _spare(self, alpha: float) -> int:
        return math.floor(alpha * self.total * (1 + _TIE)) - self.always


def smallest_p(sample_sizes: tuple[int, int], *, paired: bool, test: Test) -> float:
    """Return the smallest one-sided p-value that samples of these sizes can give."""
    if test == "bootstrap":
        return 1.0 / (2 * RESAMPLES + 1)
    first, second = sample_sizes
    return 1.0 / min(RESAMPLES + 1, 2**first if paired else math.comb(first + second, first))


def untestable(sample: Sample, test: Test) -> str | None:
    """Return why a test says nothing about a sample: too few values, or none that vary; else None."""
    if test == "bootstrap" and not sample.paired:
        return "a bootstrap test is made of pairs alone; independent sides take a permutation test"
    if sample.smallest < MINIMUM[test]:
        what = "pairs" if sample.paired else "values on each side"
        return f"a {test} test needs {MINIMUM[test]} {what}, there are {sample.smallest}"
    if test == "bootstrap" and len({x - y for x, y in zip(sample.group, sample.against, strict=True)}) == 1:
        return "a bootstrap test needs differences that vary, and these are equal"
    return None


def caution(sample: Sample) -> str | None:
    """Return, for people, where the values cast doubt on what a test assumes; else None.

    A shift moves all values alike, and without an effect pairs differ as often one way as the other. Skewed
    differences of pairs contradict that, and so do skewed sides of unequal spread: the level then holds in
    neither direction.
    """
    if sample.smallest < _FEW:
        return None
    sides = [sample.group, sample.against]
    if sample.paired:
        skew = _skewness([tuple(x - y for x, y in zip(*sides, strict=True))])
        return (
            f"the differences are skewed ({skew:.1f}), which the test assumes they are not"
            if (abs(skew) > _SKEWED)
            else None
        )
    narrow, wide = sorted(statistics.stdev(side) for side in sides)
    if abs(_skewness(sides)) > _SKEWED and wide > _UNLIKE * narrow:
        return "the values are skewed and the sides' spreads differ: the test assumes a shift alone"
    return None


def _skewness(sides: Sequence[Sequence[float]]) -> float:
    """Return the skewness of values about the mean of their side."""
    residuals = [value - math.fsum(side) / len(side) for side in sides for value in side]
    square = math.fsum(r**2 for r in residuals) / len(residuals)
    cube = math.fsum(r**3 for r in residuals) / len(residuals)
    return cube / square**1.5 if square > 0 else 0.0


def invert(sample: Sample, test: Test, generator: np.random.Generator) -> Inversion:
    """Draw the resamples of a test and return it for every null difference.

    Permutation of independent sides: under the null difference d, labels are exchangeable once d was taken
    off the group. What is compared is the difference of the means by its standard error, both of the
    relabelling (Janssen 1997; Chung and Romano 2013, "Exact and asymptotically robust permutation tests").
    The level is kept where the sides differ by a shift alone, and right for many values where their spreads
    differ too. Permutation of pairs: the signs of the differences are exchangeable once d was taken off them;
    there the standard error is the same function of every relabelling's mean, so that the mean says it all.
    Bootstrap of pairs: the mean difference by its standard error, both signs of each draw taken (Hall 1988,
    "On symmetric bootstrap confidence intervals"). All are inverted as Tritchler does (1984, "On inverting
    permutation tests").

    Raises:
        BadInput: numpy is not installed, or the sample is `untestable`.
    """
    reason = untestable(sample, test)
    if reason is not None:
        raise BadInput(reason)
    try:
        import numpy as np
    except ImportError as error:
        raise BadInput(
            "hypotheses are tested with numpy, which is not installed",
            fix='pip install "atlas-host[hypotheses]"',
        ) from error
    group, against = np.asarray(sample.group, float), np.asarray(sample.against, float)
    tie = _TIE * float(max(abs(group).max(), abs(against).max()))
    if not sample.paired:
        turns = relabelled(group, against, generator, tie)
    elif test == "permutation":
        turns = signed(group - against, generator)
    else:
        turns = redrawn(group - against, generator)
    return Inversion(np.sort(turns.first), np.sort(turns.last), turns.always, max(tie, turns.solved))
