"""The mode that an optimiser gives each eigenvalue of the curvature: roots, frequency, damping, edge.

Near a minimum the gradient is H (theta - theta*), and along an eigenvector every optimiser here is a linear
recursion x[t+1] = c x[t] - b x[t-1], whose characteristic polynomial is z^2 - c z + b. The derivation is in
docs/harmonics.md. Sources: Polyak 1964 (heavy ball), Nesterov 1983, O'Donoghue and Candes 2015 (frequencies
of momentum), Cohen et al. 2021 and 2022 (edges of stability, of gradient descent and of Adam).
"""

from __future__ import annotations

import cmath
import math
from typing import Literal

import numpy as np
from attrs import frozen

from atlas.errors import BadInput

__all__ = ["Interval", "Mode", "Optimizer", "Rule", "frequency_interval", "mode", "preconditioner"]

Rule = Literal["gd", "heavy-ball", "nesterov", "adam"]


@frozen
class Optimizer:
    """An update rule at a constant rate.

    Attributes:
        rule: `gd`, `heavy-ball`, `nesterov` (the gradient is taken where the momentum leads), or `adam` with
            its second moments frozen, whose eigenvalues are those of the preconditioned Hessian.
        rate: The learning rate, eta.
        momentum: Beta of heavy ball and Nesterov, beta_1 of Adam; not read for `gd`.
        decay: Coefficient of an L2 term decay/2 |theta|^2 that is added to the loss.
    """

    rule: Rule
    rate: float
    momentum: float = 0.0
    decay: float = 0.0

    def __attrs_post_init__(self) -> None:
        """Refuse what has no modes."""
        if not (self.rate > 0 and 0 <= self.momentum < 1 and self.decay >= 0):
            raise BadInput(
                f"rate {self.rate}, momentum {self.momentum}, decay {self.decay} make no optimiser",
                fix="take rate > 0, 0 <= momentum < 1 and decay >= 0",
            )
        if self.rule == "adam" and self.decay:
            raise BadInput(
                "decay does not shift the eigenvalues of Adam's preconditioned Hessian",
                fix="take decay 0, and measure the spectrum of the loss with its decay",
            )

    @property
    def beta(self) -> float:
        """What multiplies the step before: 0 for gradient descent."""
        return 0.0 if self.rule == "gd" else self.momentum

    @property
    def effective_rate(self) -> float:
        """What multiplies the gradient at once: Adam's average takes only 1 - beta_1 of it."""
        return self.rate * (1 - self.beta) if self.rule == "adam" else self.rate

    @property
    def edge(self) -> float:
        """The eigenvalue, decay included, above which a mode grows: where a root is -1, 1 + c + b = 0."""
        bound = 2 * (1 + self.beta)
        return bound / self.effective_rate / (1 + 2 * self.beta if self.rule == "nesterov" else 1)

    def recursion(self, eigenvalue: float) -> tuple[float, float]:
        """Return c and b of x[t+1] = c x[t] - b x[t-1] along an eigenvector."""
        step = self.effective_rate * (eigenvalue + self.decay)
        if self.rule == "nesterov":
            return (1 + self.beta) * (1 - step), self.beta * (1 - step)
        return 1 + self.beta - step, self.beta


@frozen
class Mode:
    """The motion along one eigenvector.

    Attributes:
        eigenvalue: Of the loss alone, without decay.
        roots: Both roots of z^2 - c z + b, the slower to decay first.
        frequency: Angle of the first root, radians a step, from 0 (no oscillation) to pi (alternation).
        damping: -log |z| of the first root, a step; negative where the mode grows.
        underdamped: The roots are a complex pair.
        stable: Both roots lie inside the unit circle.
    """

    eigenvalue: float
    roots: tuple[complex, complex]
    frequency: float
    damping: float
    underdamped: bool
    stable: bool

    @property
    def period(self) -> float | None:
        """Steps a turn, or None where nothing turns."""
        return 2 * math.pi / self.frequency if self.frequency > 0 else None


@frozen
class Interval:
    """A frequency with the ends that a bound on the eigenvalue allows."""

    value: float
    low: float
    high: float


def mode(optimizer: Optimizer, eigenvalue: float) -> Mode:
    """Return the mode of an eigenvalue."""
    c, b = optimizer.recursion(eigenvalue)
    root = cmath.sqrt(c * c - 4 * b)
    pair = sorted(((c + root) / 2, (c - root) / 2), key=abs, reverse=True)
    if root.imag:
        pair = sorted(pair, key=lambda z: z.imag, reverse=True)
    slow = pair[0]
    size = abs(slow)
    return Mode(
        eigenvalue=eigenvalue,
        roots=(pair[0], pair[1]),
        frequency=abs(cmath.phase(slow)) if size else 0.0,
        damping=-math.log(size) if size else math.inf,
        underdamped=bool(root.imag),
        stable=size < 1,
    )


def frequency_interval(optimizer: Optimizer, eigenvalue: float, residual_norm: float) -> Interval:
    """Return the frequency for every eigenvalue within the residual norm of this one.

    The frequency never falls as the eigenvalue rises, so that the ends of the one are the ends of the other.
    """
    low, value, high = (
        mode(optimizer, eigenvalue + shift).frequency for shift in (-residual_norm, 0.0, residual_norm)
    )
    return Interval(value, low, high)


def preconditioner(second_moments: np.ndarray, epsilon: float) -> np.ndarray:
    """Return P^-1/2 of Adam, `[n]`: with it Adam's modes are those of the eigenvalues of P^-1/2 H P^-1/2.

    Args:
        second_moments: v, `[n]`, bias-corrected and held fixed; P = diag(sqrt(v) + epsilon).
        epsilon: Adam's epsilon.
    """
    return np.asarray(1 / np.sqrt(np.sqrt(second_moments) + epsilon))
