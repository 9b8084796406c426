"""One observed mode beside its prediction, and beside predictions that are wrong on purpose."""

from __future__ import annotations

from attrs import evolve, frozen

from atlas_lossyscape.harmonics.certificate import Eigenpairs
from atlas_lossyscape.harmonics.modes import Mode, Optimizer, frequency_interval, mode
from atlas_lossyscape.harmonics.signals import Observed

__all__ = ["ALLOWED", "RESOLVED", "WRONG_RATE", "Comparison", "compare", "resolvable"]

ALLOWED = 0.05
"""Largest relative error of a frequency that counts as agreement."""

RESOLVED = ALLOWED / 2
"""Largest standard error, relative to the prediction, with which an observation can tell 5%."""

WRONG_RATE = 1.25
"""Factor of the rate that the first control assumes."""


@frozen
class Comparison:
    """One mode of one leg, frequencies in radians a step.

    Attributes:
        leg: Which part of the experiment.
        index: Position of the eigenvalue, from 1, the largest first.
        rule: The optimiser's.
        edge_share: The eigenvalue, decay included, in units of the rule's edge at this rate.
        eigenvalue: Of the loss without decay; for Adam of its preconditioned Hessian.
        residual_norm: Bound on its error.
        expected: The mode by the loss's curvature and the decay together.
        low: Lower end of its frequency under the residual norm.
        high: Upper end.
        decay_only: What the decay alone would give, the loss's curvature left out.
        wrong_rate: Control: what a rate 1.25 times too large would give.
        wrong_eigenvalue: Control: what the next eigenvalue would give.
        observed: From the recorded projection.
        both_ends: At the edge: what the curvature at both ends of the alternation gives; None elsewhere.
    """

    leg: str
    index: int
    rule: str
    edge_share: float
    eigenvalue: float
    residual_norm: float
    expected: Mode
    low: float
    high: float
    decay_only: float
    wrong_rate: float
    wrong_eigenvalue: float
    observed: Observed
    both_ends: float | None = None

    @property
    def relative_error(self) -> float:
        """Distance of the observed from the predicted frequency, relative to the latter."""
        return abs(self.observed.frequency / self.expected.frequency - 1)

    @property
    def resolved(self) -> bool:
        """Whether the standard error is at most 2.5% of the prediction; that it agrees plays no part."""
        return self.observed.standard_error <= RESOLVED * self.expected.frequency

    def rejects(self, frequency: float) -> bool:
        """Say whether a prediction misses by more than 5% and by more than three standard errors."""
        miss = abs(self.observed.frequency - frequency)
        return miss > max(ALLOWED * frequency, 3 * self.observed.standard_error)


def resolvable(expected: Mode) -> bool:
    """Say whether it turns by a third of a circle before its swing falls to 1/e: frequency > 2 damping."""
    return expected.underdamped and expected.frequency > 2 * expected.damping


def compare(leg: str, index: int, optimizer: Optimizer, pairs: Eigenpairs, observed: Observed) -> Comparison:
    """Return the comparison of eigenpair `index`, counted from 0, with what was observed along it."""
    values, bound = pairs.values, float(pairs.residual_norms[index])
    value = float(values[index])
    span = frequency_interval(optimizer, value, bound)
    other = float(values[index + 1] if index + 1 < values.size else values[index - 1])
    faster = evolve(optimizer, rate=WRONG_RATE * optimizer.rate)
    return Comparison(
        leg=leg,
        index=index + 1,
        rule=optimizer.rule,
        edge_share=(value + optimizer.decay) / optimizer.edge,
        eigenvalue=value,
        residual_norm=bound,
        expected=mode(optimizer, value),
        low=span.low,
        high=span.high,
        decay_only=mode(optimizer, 0.0).frequency,
        wrong_rate=mode(faster, value).frequency,
        wrong_eigenvalue=mode(optimizer, other).frequency,
        observed=observed,
    )
