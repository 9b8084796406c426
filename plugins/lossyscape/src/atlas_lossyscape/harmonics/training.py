"""Training by hand, step by step, with a state that two runs can start from alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attrs import frozen

from atlas.errors import InstrumentFailed
from atlas_lossyscape.harmonics.modes import Optimizer

__all__ = ["EPSILON", "SECOND", "Gradient", "State", "rest", "train"]

Gradient = Callable[[np.ndarray, int], np.ndarray]
"""Takes parameters `[n]` and the step's number and returns the gradient `[n]`."""

SECOND = 0.999
"""Beta_2 of Adam."""

EPSILON = 1e-8
"""Epsilon of Adam."""


@frozen(eq=False)
class State:
    """What the next step depends on.

    Attributes:
        now: Parameters `[n]`.
        before: Parameters a step ago, `[n]`.
        first: Adam's average of gradients, `[n]`, without bias correction.
        second: Adam's average of squared gradients, likewise.
        clock: Steps taken so far.
    """

    now: np.ndarray
    before: np.ndarray
    first: np.ndarray
    second: np.ndarray
    clock: int = 0

    @property
    def second_moments(self) -> np.ndarray:
        """Adam's v with its bias corrected."""
        return np.asarray(self.second / (1 - SECOND**self.clock))

    def pushed(self, push: np.ndarray) -> State:
        """Return the state with the parameters moved by `push`, at the speed that they had."""
        return State(self.now + push, self.before + push, self.first, self.second, self.clock)


def rest(theta: np.ndarray) -> State:
    """Return the state at rest before the first step."""
    return State(theta.copy(), theta.copy(), np.zeros_like(theta), np.zeros_like(theta))


def train(
    state: State,
    optimizer: Optimizer,
    gradient: Gradient,
    steps: int,
    rate: Callable[[int], float] | None = None,
) -> tuple[np.ndarray, State]:
    """Return the path `[steps, n]`, the start its first row, and the state after it.

    Args:
        state: Where to start; `gradient` and `rate` are told its clock and what follows.
        optimizer: Its decay is not read: it belongs to `gradient`.
        gradient: Of the loss.
        steps: How many to take.
        rate: Varies the rate by a factor.

    Raises:
        InstrumentFailed: The parameters are no longer finite.
    """
    path = np.empty((steps, state.now.size))
    with np.errstate(over="ignore", invalid="ignore"):  # a divergence is told below
        for row in range(steps):
            path[row] = state.now
            factor = 1.0 if rate is None else rate(state.clock)
            state = _step(state, optimizer, gradient, factor * optimizer.rate)
    if not np.all(np.isfinite(state.now)):
        raise InstrumentFailed("the training diverged", fix="lower the rate")
    return path, state


def _step(state: State, optimizer: Optimizer, gradient: Gradient, rate: float) -> State:
    clock, momentum = state.clock + 1, optimizer.beta * (state.now - state.before)
    if optimizer.rule == "adam":
        slope = gradient(state.now, state.clock)
        first = optimizer.beta * state.first + (1 - optimizer.beta) * slope
        second = SECOND * state.second + (1 - SECOND) * slope * slope
        size = np.sqrt(second / (1 - SECOND**clock)) + EPSILON
        move = -rate * first / (1 - optimizer.beta**clock) / size
        return State(state.now + move, state.now, first, second, clock)
    ahead = state.now + momentum if optimizer.rule == "nesterov" else state.now
    move = momentum - rate * gradient(ahead, state.clock)
    return State(state.now + move, state.now, state.first, state.second, clock)
