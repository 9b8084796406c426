"""Sweeps of the period that drives one mode: the order of batches, and a cyclic rate; and their peaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from attrs import frozen

from atlas.errors import InstrumentFailed
from atlas.randomness import RandomStreams
from atlas_lossyscape.harmonics.certificate import Eigenpairs
from atlas_lossyscape.harmonics.gain import cyclic_growth, gain
from atlas_lossyscape.harmonics.modes import Optimizer
from atlas_lossyscape.harmonics.network import Network
from atlas_lossyscape.harmonics.signals import component
from atlas_lossyscape.harmonics.training import State, rest, train

__all__ = ["Drive", "Peak", "order_peak", "rate_peak", "sweep_order", "sweep_rate"]

DEPTH, NOISE, BLOCKS, SPAN, WAIT = 1e-4, 0.1, 12, 100, 300
KICKS, PUSH, TURNS, AROUND = 8, 1e-5, 4, 5


@frozen
class Drive:
    """Response of one mode to one period of a drive.

    Attributes:
        what: `order` or `rate`.
        period: Steps; a multiple of a quarter.
        predicted: Gain of the force (order), or growth of the swing a step (rate).
        measured: The same.
        standard_error: Of the measured.
    """

    what: str
    period: float
    predicted: float
    measured: float
    standard_error: float

    @property
    def frequency(self) -> float:
        """Of the drive, radians a step."""
        return 2 * math.pi / self.period


@frozen
class Peak:
    """Where a response is largest, radians a step, with its standard error."""

    frequency: float
    standard_error: float


def sweep_order(
    network: Network,
    theta: np.ndarray,
    optimizer: Optimizer,
    pairs: Eigenpairs,
    index: int,
    periods: Sequence[int],
    random: RandomStreams,
) -> list[Drive]:
    """Alternate two halves of the data, half a period each, amid gradient noise, and measure a mode's gain.

    The halves weigh 1 + s and 1 - s with s = 1e-4, so that the motion stays where the loss is quadratic. The
    noise is white, a tenth of the force. Both amplitudes are at the drive's own frequency; that of the
    projection is taken from 12 blocks, whose scatter gives the standard error.

    Args:
        network: Trained by the optimiser, with its decay.
        theta: Its minimum.
        optimizer: Gradient descent, heavy ball or Nesterov.
        pairs: At theta.
        index: Of the mode, from 0.
        periods: Even numbers of steps.
        random: Source of the noise.
    """
    axis, value = pairs.vectors[:, index], float(pairs.values[index])
    signs = DEPTH * np.where(np.arange(network.targets.size) < network.targets.size // 2, 1.0, -1.0)
    force = abs(float((network.gradient(theta, 1 + signs) - network.gradient(theta)) @ axis))
    rows = []
    for period in periods:
        block = period * math.ceil(SPAN / period)
        wait = period * math.ceil(WAIT / period)
        steps = wait + BLOCKS * block
        generator = random.generator("harmonics order", period)
        noise = NOISE * force * generator.normal(size=(steps, theta.size))
        half = np.where(np.arange(steps) % period < period // 2, 1.0, -1.0)

        def gradient(x: np.ndarray, t: int, half: np.ndarray = half, noise: np.ndarray = noise) -> np.ndarray:
            return np.asarray(network.gradient(x, 1 + half[t] * signs) + noise[t])

        path, _ = train(rest(theta), optimizer, gradient, steps)
        omega = 2 * math.pi / period
        blocks = ((path[wait:] - theta) @ axis).reshape(BLOCKS, block)
        responses = np.array([component(part, omega) for part in blocks])
        mean = responses.mean()
        along = np.real(responses * np.conj(mean)) / abs(mean)
        forced = force * abs(component(half[:period], omega))
        error = float(along.std(ddof=1)) / math.sqrt(BLOCKS)
        expected = gain(optimizer, value, omega)
        rows.append(Drive("order", float(period), expected, abs(mean) / forced, error / forced))
    return rows


def sweep_rate(
    network: Network,
    theta: np.ndarray,
    optimizer: Optimizer,
    pairs: Eigenpairs,
    index: int,
    periods: Sequence[int],
    amplitude: float,
    random: RandomStreams,
) -> list[Drive]:
    """Vary the rate by a cosine of each period and measure how a mode grows or decays, per step.

    The mode's state, two successive projections, is pushed 8 times, and the matrix that a whole number of
    turns applies to it is their least-squares fit; the growth is that of its spectral radius, its error the
    jackknife's over the pushes. About the largest growth the periods are repeated in quarter steps.
    """

    def one(steps: int, turns: int) -> Drive:
        growth, error = _growth(
            network, theta, optimizer, pairs.vectors[:, index], steps, turns, amplitude, random
        )
        expected = cyclic_growth(optimizer, float(pairs.values[index]), steps, amplitude, turns)
        return Drive("rate", steps / turns, expected, growth, error)

    rows = [one(period, 1) for period in periods]
    best = round(max(rows, key=lambda row: row.measured).period)
    near = range(TURNS * (best - 1) + 1, TURNS * (best + 1))
    return rows + [one(steps, TURNS) for steps in near if steps % TURNS]


def _growth(
    network: Network,
    theta: np.ndarray,
    optimizer: Optimizer,
    axis: np.ndarray,
    steps: int,
    turns: int,
    amplitude: float,
    random: RandomStreams,
) -> tuple[float, float]:
    """Return the growth a step over `steps` steps of `turns` turns of the rate, and its standard error."""

    def factor(t: int) -> float:
        return 1 + amplitude * math.cos(2 * math.pi * turns * t / steps)

    pushes = PUSH * random.generator("harmonics rate", steps).normal(size=(KICKS, 2))
    ends = []
    for now, before in pushes:
        still = rest(theta)
        start = State(theta + now * axis, theta + before * axis, still.first, still.second)
        _, last = train(start, optimizer, lambda x, _: network.gradient(x), steps, factor)
        ends.append([(last.now - theta) @ axis, (last.before - theta) @ axis])

    def radius(kept: np.ndarray) -> float:
        matrix = np.linalg.lstsq(pushes[kept], np.array(ends)[kept], rcond=None)[0]
        return math.log(float(np.abs(np.linalg.eigvals(matrix)).max())) / steps

    every = np.arange(KICKS)
    without = [radius(np.delete(every, k)) for k in every]
    return radius(every), math.sqrt(KICKS - 1) * float(np.std(without))


def order_peak(rows: Sequence[Drive]) -> Peak:
    """Return where the gain is largest: 1 / gain^2 is a parabola in cos w, fitted with the measured errors.

    Raises:
        InstrumentFailed: The parabola has no least value between the ends of the sweep.
    """
    x = np.cos([row.frequency for row in rows])
    measured = np.array([row.measured for row in rows])
    errors = 2 * np.array([row.standard_error for row in rows]) / measured**3
    design = np.stack([x * x, x, np.ones_like(x)], axis=1) / errors[:, None]
    fit = np.linalg.lstsq(design, 1 / measured**2 / errors, rcond=None)[0]
    return _vertex(fit, np.linalg.inv(design.T @ design), x, cosine=True)


def rate_peak(rows: Sequence[Drive]) -> Peak:
    """Return where the growth is largest, by a parabola in w through the five rows about it."""
    ordered = sorted(rows, key=lambda row: row.frequency)
    best = max(range(len(ordered)), key=lambda i: ordered[i].measured)
    near = ordered[max(0, best - AROUND // 2) : best + AROUND // 2 + 1]
    x, y = (np.array([getattr(row, name) for row in near]) for name in ("frequency", "measured"))
    design = np.stack([x * x, x, np.ones_like(x)], axis=1)
    fit, residual, _, _ = np.linalg.lstsq(design, y, rcond=None)
    spread = float(residual[0]) / (len(near) - 3) if len(near) > 3 and residual.size else math.inf
    return _vertex(fit, spread * np.linalg.inv(design.T @ design), x, cosine=False)


def _vertex(fit: np.ndarray, covariance: np.ndarray, x: np.ndarray, *, cosine: bool) -> Peak:
    """Return the vertex -b / (2 a) of a parabola as a frequency, its error by the first order."""
    a, b = float(fit[0]), float(fit[1])
    vertex = -b / (2 * a) if a else math.inf
    if not x.min() < vertex < x.max():
        raise InstrumentFailed(
            "the response has no peak within the swept periods",
            fix="raise longest_period, or drive another mode",
        )
    slope = np.array([b / (2 * a * a), -1 / (2 * a), 0.0])
    error = math.sqrt(float(slope @ covariance @ slope))
    return Peak(math.acos(vertex), error / math.sqrt(1 - vertex**2)) if cosine else Peak(vertex, error)
