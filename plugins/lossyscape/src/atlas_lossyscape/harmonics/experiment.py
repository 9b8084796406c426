"""The experiment: trains a small network, with observed frequencies and gains beside the predicted ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from attrs import frozen

from atlas.errors import InstrumentFailed
from atlas.randomness import RandomStreams
from atlas_lossyscape.harmonics.gain import cyclic_growth, gain
from atlas_lossyscape.harmonics.modes import Optimizer, frequency_interval, mode
from atlas_lossyscape.harmonics.network import Network, eigenpairs, minimum
from atlas_lossyscape.harmonics.signals import Observed, autoregression, component, matrix_pencil

__all__ = ["Comparison", "Drive", "at_edge", "draw", "free", "noisy", "sweep_order", "sweep_rate"]

SAMPLES, WIDTH, HIDDEN, DRAWS = 64, 2, 3, 20
PUSH = 1e-5

Gradient = Callable[[np.ndarray, int], np.ndarray]


@frozen
class Comparison:
    """One mode of one leg, frequencies in radians a step.

    Attributes:
        leg: Which part of the experiment.
        index: Position of the eigenvalue, from 1, the largest first.
        eigenvalue: Of the loss, without decay.
        residual_norm: Bound on its error.
        predicted: From the loss's curvature and the decay together.
        low: Lower end of the prediction under the residual norm.
        high: Upper end.
        decay_only: What the decay alone would give, the loss's curvature left out.
        observed: From the recorded projection.
    """

    leg: str
    index: int
    eigenvalue: float
    residual_norm: float
    predicted: float
    low: float
    high: float
    decay_only: float
    observed: Observed

    @property
    def relative_error(self) -> float:
        """Distance of the observed from the predicted frequency, relative to the latter."""
        return abs(self.observed.frequency - self.predicted) / self.predicted


@frozen
class Drive:
    """Response of one mode to one period of a drive; `what` is `order` or `rate`."""

    what: str
    period: int
    predicted: float
    measured: float


def draw(random: RandomStreams, decay: float) -> tuple[Network, np.ndarray]:
    """Return a network on data of a teacher, whose plain loss has a sound minimum, and its minimum.

    Raises:
        InstrumentFailed: None of 20 draws has such a minimum.
    """
    for index in range(DRAWS):
        generator = random.generator("harmonics network", index)
        inputs = generator.normal(size=(SAMPLES, WIDTH))
        teacher = 1.2 * generator.normal(size=HIDDEN * (WIDTH + 2) + 1)
        split = HIDDEN * WIDTH
        hidden = np.tanh(inputs @ teacher[:split].reshape(HIDDEN, WIDTH).T + teacher[split : split + HIDDEN])
        targets = hidden @ teacher[split + HIDDEN : -1] + teacher[-1] + 0.1 * generator.normal(size=SAMPLES)
        plain = Network(inputs, targets, HIDDEN)
        try:
            theta = minimum(plain, teacher)
            lowest = eigenpairs(plain, theta)[0][-1]
            if lowest < 1e-4:
                continue
            network = Network(inputs, targets, HIDDEN, decay)
            return network, theta if decay == 0 else minimum(network, theta)
        except InstrumentFailed:
            continue
    raise InstrumentFailed("no draw has a well-conditioned minimum", fix="take another seed")


def _train(
    start: np.ndarray,
    optimizer: Optimizer,
    gradient: Gradient,
    steps: int,
    rate: Callable[[int], float] | None = None,
) -> np.ndarray:
    """Return the path `[steps, n]` from rest at `start`; `rate` varies the rate by its factor."""
    path = np.empty((steps, start.size))
    now, before = start.copy(), start.copy()
    for t in range(steps):
        path[t] = now
        factor = 1.0 if rate is None else rate(t)
        move = optimizer.beta * (now - before) - factor * optimizer.effective_rate * gradient(now, t)
        now, before = now + move, now
    if not np.all(np.isfinite(now)):
        raise InstrumentFailed("the training diverged", fix="lower the rate")
    return path


def _compare(
    leg: str, index: int, optimizer: Optimizer, total: float, bound: float, observed: Observed
) -> Comparison:
    curvature = total - optimizer.decay
    span = frequency_interval(optimizer, curvature, bound)
    return Comparison(
        leg,
        index + 1,
        curvature,
        bound,
        span.value,
        span.low,
        span.high,
        mode(optimizer, 0.0).frequency,
        observed,
    )


def free(network: Network, theta: np.ndarray, optimizer: Optimizer, leg: str) -> list[Comparison]:
    """Push the minimum along each eigenvector whose mode is underdamped and read how it swings back.

    Args:
        network: With the optimiser's decay in its loss.
        theta: Its minimum.
        optimizer: Heavy ball.
        leg: Name for the rows.
    """
    values, vectors, bounds = eigenpairs(network, theta)
    rows = []
    for index, value in enumerate(map(float, values)):
        expected = mode(optimizer, value - optimizer.decay)
        turns = 0.0 if expected.period is None else 2.5 * expected.period
        if not expected.underdamped or turns > 400:
            continue
        axis = vectors[:, index]
        path = _train(
            theta + PUSH * axis, optimizer, lambda x, _: network.gradient(x), max(48, math.ceil(turns))
        )
        observed = matrix_pencil((path - theta) @ axis / PUSH)
        rows.append(_compare(leg, index, optimizer, value, float(bounds[index]), observed))
    return rows


def noisy(
    network: Network, theta: np.ndarray, optimizer: Optimizer, random: RandomStreams, *, steps: int
) -> list[Comparison]:
    """Add white gradient noise at a minimum of the loss alone and read the modes' frequencies."""
    generator = random.generator("harmonics noise")
    noise = 1e-6 * generator.normal(size=(steps, theta.size))
    path = _train(theta, optimizer, lambda x, t: network.gradient(x) + noise[t], steps)
    values, vectors, bounds = eigenpairs(network, theta)
    rows = []
    for index, value in enumerate(map(float, values)):
        expected = mode(optimizer, value)
        if expected.underdamped and expected.frequency > 2 * expected.damping:
            observed = autoregression((path - theta) @ vectors[:, index])
            rows.append(_compare("noise", index, optimizer, value, float(bounds[index]), observed))
    return rows


def at_edge(network: Network, theta: np.ndarray, random: RandomStreams) -> tuple[Comparison, float]:
    """Train from a random start by gradient descent at a rate 5% above what the minimum bears.

    Returns:
        The top mode's frequency at the end, and the sharpness there in units of 2 / rate, which gradient
        descent holds near 1 (Cohen et al. 2021).
    """
    sharpest = float(eigenpairs(network, theta)[0][0])
    optimizer = Optimizer("gd", 1.05 * 2 / sharpest)
    start = 0.4 * random.generator("harmonics start").normal(size=theta.size)
    path = _train(start, optimizer, lambda x, _: network.gradient(x), 6000)[-64:]
    values, vectors, bounds = eigenpairs(network, path[-2:].mean(0))
    signal = (path - path.mean(0)) @ vectors[:, 0]
    row = _compare("edge", 0, optimizer, float(values[0]), float(bounds[0]), matrix_pencil(signal))
    return row, float(values[0]) / optimizer.edge


def sweep_order(
    network: Network, theta: np.ndarray, optimizer: Optimizer, index: int, periods: tuple[int, ...]
) -> list[Drive]:
    """Alternate two halves of the data, half a period each, and measure a mode's gain.

    The halves weigh 1 + s and 1 - s with s = 1e-4, so that the motion stays where the loss is quadratic; both
    amplitudes are at the drive's own frequency, of the projection and of the halves' gradients.
    """
    values, vectors, _ = eigenpairs(network, theta)
    axis, value = vectors[:, index], float(values[index])
    signs = 1e-4 * np.where(np.arange(network.targets.size) < network.targets.size // 2, 1.0, -1.0)
    force = float(network.gradient(theta, 1 + signs) @ axis - network.gradient(theta) @ axis)
    rows = []
    for period in periods:
        turns = math.ceil(300 / period)
        wait = period * math.ceil(400 / period)

        def half(t: int, period: int = period) -> float:
            return 1.0 if t % period < period // 2 else -1.0

        path = _train(
            theta, optimizer, lambda x, t: network.gradient(x, 1 + half(t) * signs), wait + turns * period
        )
        omega = 2 * math.pi / period
        driven = component((path[wait:] - theta) @ axis, omega)
        forced = abs(force) * component(np.array([half(t) for t in range(period)]), omega)
        rows.append(Drive("order", period, gain(optimizer, value, omega), driven / forced))
    return rows


def sweep_rate(
    network: Network,
    theta: np.ndarray,
    optimizer: Optimizer,
    index: int,
    periods: tuple[int, ...],
    amplitude: float,
) -> list[Drive]:
    """Vary the rate by a cosine of each period and measure how a mode's swing grows or decays, per step."""
    values, vectors, _ = eigenpairs(network, theta)
    axis, value = vectors[:, index], float(values[index])
    rows = []
    for period in periods:
        predicted = cyclic_growth(optimizer, value, period, amplitude)
        skip, span = period * math.ceil(80 / period), period * math.ceil(320 / period)

        def factor(t: int, period: int = period) -> float:
            return 1 + amplitude * math.cos(2 * math.pi * t / period)

        push = 1e-5 * min(1.0, math.exp(-predicted * (skip + span)))
        path = _train(
            theta + push * axis,
            optimizer,
            lambda x, _: network.gradient(x),
            skip + 2 * span,
            factor,
        )
        swing = np.abs((path - theta) @ axis)
        early, late = (float(swing[s : s + span].max()) for s in (skip, skip + span))
        rows.append(Drive("rate", period, predicted, math.log(late / early) / span))
    return rows
