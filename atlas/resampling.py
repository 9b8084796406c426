"""Resamples of two groups or of pairs, each as the null difference at which it changes sides.

numpy is imported when resamples are drawn.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    import numpy as np

__all__ = ["RESAMPLES", "Turns", "redrawn", "relabelled", "signed"]

RESAMPLES = 19_999
"""Resamples of a test. All permutations are taken instead where there are no more than these; else a
p-value of 0.05 has a Monte Carlo standard error of 0.0015."""

_TIE = 1e-12
_HALVINGS = 44
_SOLVED = 1e-9
"""How closely a turning point is found by bisection, in standard errors of the effect."""


@frozen
class Turns:
    """Where resamples change sides.

    Attributes:
        first: For each the least null difference at which it is as large as the data, `[N]`.
        last: For each the greatest null difference at which it is as small as the data, `[N]`.
        always: Resamples as extreme as the data whatever the null difference; the data count themselves.
        solved: How closely the turning points are known, in the unit of the values.
    """

    first: np.ndarray[Any, np.dtype[np.float64]] = field(repr=False, eq=False)
    last: np.ndarray[Any, np.dtype[np.float64]] = field(repr=False, eq=False)
    always: int
    solved: float = 0.0


def signed(differences: Any, generator: np.random.Generator) -> Turns:
    """Change the signs of the differences of pairs, `[n]`; the means are compared."""
    import numpy as np

    count = len(differences)
    if 2**count <= RESAMPLES:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=count)))
        itself = 0  # all sign changes hold the data's own, drawn ones need not
    else:
        signs = generator.integers(0, 2, (RESAMPLES, count)) * 2.0 - 1.0
        itself = 1
    slope = signs.mean(axis=1)
    moves = slope < 1 - _TIE
    points = (differences.mean() - signs[moves] @ differences / count) / (1 - slope[moves])
    return Turns(points, points, int((~moves).sum()) + itself)


def redrawn(differences: Any, generator: np.random.Generator) -> Turns:
    """Draw differences of pairs, `[n]`, again; studentised means and their negatives are compared."""
    import numpy as np

    count = len(differences)
    effect, error = differences.mean(), differences.std(ddof=1) / math.sqrt(count)
    drawn = differences[generator.integers(0, count, (RESAMPLES, count))]
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = (drawn.mean(axis=1) - effect) / (drawn.std(axis=1, ddof=1) / math.sqrt(count))
    known = np.isfinite(studentised)  # a resample of equal values has no error; it counts against the data
    both = np.concatenate([studentised[known], -studentised[known]])
    points = effect - error * both
    return Turns(points, points, 1 + 2 * int((~known).sum()))


def relabelled(group: Any, against: Any, generator: np.random.Generator, tie: float) -> Turns:
    """Exchange the labels of two independent sides, `[n]` and `[m]`; Welch's t is compared, as a deviate.

    Differences below `tie` are rounding.
    """
    import numpy as np

    effect = float(group.mean() - against.mean())
    error = math.sqrt(group.var(ddof=1) / len(group) + against.var(ddof=1) / len(against))
    labels, itself = _labels(len(group), len(against), generator)
    moves = ~(labels[:, : len(group)] == 1).all(axis=1)
    always = int((~moves).sum()) + itself
    if error <= tie:  # neither side varies: every relabelling turns where the two values meet
        points = np.full(int(moves.sum()), effect)
        return Turns(points, points, always)
    residuals = np.concatenate([group - group.mean(), against - against.mean()]) / error
    first, last = _turns(labels[moves], residuals, len(group))
    return Turns(effect + error * first, effect + error * last, always, _SOLVED * error)


def _labels(first: int, second: int, generator: np.random.Generator) -> tuple[Any, int]:
    """Return labels, 1 for the group, `[N, first + second]`, and 1 where the data's own must be added."""
    import numpy as np

    count = first + second
    if math.comb(count, first) <= RESAMPLES:
        chosen = np.array(list(itertools.combinations(range(count), first)))
        labels = np.zeros((len(chosen), count))
        np.put_along_axis(labels, chosen, 1.0, axis=1)
        return labels, 0
    own = np.concatenate([np.ones(first), np.zeros(second)])
    return generator.permuted(np.tile(own, (RESAMPLES, 1)), axis=1), 1


def _turns(labels: Any, residuals: Any, first: int) -> tuple[Any, Any]:
    """Return the first and the last turning point of each relabelling.

    At the null difference `effect + error * u` the data's t is -u, and a relabelling's is linear in u over
    the root of a square in u; their deviates are compared. Mostly they cross once. Turning points are
    bracketed on a grid and bisected; of two within one cell of the grid, half a standard error wide near the
    effect, neither is seen.

    Args:
        labels: 1 for the group, `[N, n + m]`; none is the data's own.
        residuals: Values less the mean of their side, in standard errors of the effect, `[n + m]`.
        first: n.
    """
    import numpy as np

    second = len(residuals) - first
    own = np.concatenate([np.ones(first), np.zeros(second)])
    features = np.stack([own, residuals, own * residuals, residuals**2], axis=1)
    sums = labels @ features
    inside, outside = (sums / first).T, ((features.sum(axis=0) - sums) / second).T
    slope, offset = inside[0] - outside[0], inside[1] - outside[1]
    free = (first - 1, second - 1)
    quadratics = [
        ((side[3] - side[1] ** 2) / f, -2 * (side[2] - side[0] * side[1]) / f, (side[0] - side[0] ** 2) / f)
        for side, f in zip((inside, outside), free, strict=True)
    ]
    squares = (residuals[:first] @ residuals[:first], residuals[first:] @ residuals[first:])
    own_errors = (squares[0] / (first * free[0]), squares[1] / (second * free[1]))

    def ahead(u: Any, of: Any = slice(None)) -> Any:
        """Return by how much the data's score exceeds a relabelling's."""
        errors = [np.maximum(c[of] + (b[of] + a[of] * u) * u, _TIE) for c, b, a in quadratics]
        relabelled = (offset[of] - slope[of] * u) / np.sqrt(errors[0] + errors[1])
        return _score(-u, own_errors, free) - _score(relabelled, errors, free)

    half = np.concatenate([np.arange(0.5, 10, 0.5), np.geomspace(10, 1e6, 16)])
    grid = np.concatenate([-half[::-1], [0.0], half])
    cell = np.full(len(slope), len(grid) - 1)  # of the first turn: the grid's place where it is behind
    far = np.zeros(len(slope), dtype=int)  # of the last turn: the grid's last place where it is not
    for place, u in enumerate(grid):
        gap = ahead(u)
        cell = np.where((gap <= 0) & (cell > place), place, cell)
        far = np.where(gap >= 0, place, far)
    first_turn = _bisected(ahead, grid[np.maximum(cell - 1, 0)], grid[cell], slice(None))
    last_turn = first_turn.copy()
    again = np.flatnonzero(far >= cell)
    beyond = np.minimum(far[again] + 1, len(grid) - 1)
    last_turn[again] = _bisected(ahead, grid[far[again]], grid[beyond], again)
    return first_turn, last_turn


def _score(t: Any, errors: Any, free: tuple[int, int]) -> Any:
    """Return the standard normal deviate of Welch's t, from the squared errors of the sides' means.

    Welch 1938 for the degrees of freedom; Wallace 1959, "Bounds on normal approximations to Student's and the
    chi-square distributions", for the deviate. Relabellings differ in their degrees of freedom; deviates
    are on one scale.
    """
    import numpy as np

    total = errors[0] + errors[1]
    degrees = total**2 / (errors[0] ** 2 / free[0] + errors[1] ** 2 / free[1])
    size = np.sqrt(degrees * np.log1p(t * t / degrees))
    return np.sign(t) * (8 * degrees + 1) / (8 * degrees + 3) * size


def _bisected(ahead: Any, low: Any, high: Any, of: Any) -> Any:
    """Halve intervals, ahead at `low` and not at `high`, until they are as short as floats are apart."""
    import numpy as np

    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_ahead = ahead(middle, of) > 0
        low, high = np.where(is_ahead, middle, low), np.where(is_ahead, high, middle)
    return (low + high) / 2
