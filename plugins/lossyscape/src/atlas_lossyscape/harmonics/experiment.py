"""The experiment at a minimum: modes that a push or noise sets swinging, beside their predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atlas.errors import InstrumentFailed
from atlas.randomness import RandomStreams
from atlas_lossyscape.harmonics.certificate import certified_pairs
from atlas_lossyscape.harmonics.comparison import Comparison, compare, resolvable
from atlas_lossyscape.harmonics.modes import Optimizer, mode, preconditioner
from atlas_lossyscape.harmonics.network import Network, eigenpairs, minimum
from atlas_lossyscape.harmonics.signals import Observed, autoregression, from_repeats
from atlas_lossyscape.harmonics.training import EPSILON, rest, train

__all__ = ["SHARES", "approach", "draw", "free", "noisy", "under_adam"]

SAMPLES, WIDTH, HIDDEN, DRAWS = 64, 2, 3, 20
PUSHES = (1e-5, -1e-5, 2e-5, -2e-5)
LONGEST = 1000

SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Rates of `approach`, in units of the largest that the top mode bears."""

_BATCH_NOISE = 0.01


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


def _ring(
    network: Network, theta: np.ndarray, optimizer: Optimizer, axis: np.ndarray, period: float
) -> Observed:
    """Push a minimum along an axis, by four pushes of both signs, and read how it swings back."""
    steps = max(48, math.ceil(2.5 * period))
    signals = []
    for push in PUSHES:
        path, _ = train(rest(theta + push * axis), optimizer, lambda x, _: network.gradient(x), steps)
        signals.append((path - theta) @ axis / push)
    return from_repeats(np.array(signals))


def free(network: Network, theta: np.ndarray, optimizer: Optimizer, leg: str) -> list[Comparison]:
    """Push the minimum along each certified eigenvector whose mode is underdamped and read how it swings.

    Args:
        network: With the optimiser's decay in its loss.
        theta: Its minimum.
        optimizer: Heavy ball or Nesterov.
        leg: Name for the rows.
    """
    pairs = certified_pairs(network, theta)
    rows = []
    for index, value in enumerate(map(float, pairs.values)):
        expected = mode(optimizer, value)
        if expected.underdamped and expected.period is not None and 2.5 * expected.period <= LONGEST:
            observed = _ring(network, theta, optimizer, pairs.vectors[:, index], expected.period)
            rows.append(compare(leg, index, optimizer, pairs, observed))
    return rows


def approach(
    network: Network, theta: np.ndarray, momentum: float, shares: Sequence[float] = SHARES
) -> list[Comparison]:
    """Raise heavy ball's rate towards the top mode's edge and read that mode's frequency at each rate."""
    pairs = certified_pairs(network, theta)
    edge = Optimizer("heavy-ball", 1.0, momentum, network.decay).edge
    rows = []
    for share in shares:
        rate = share * edge / (float(pairs.values[0]) + network.decay)
        optimizer = Optimizer("heavy-ball", rate, momentum, network.decay)
        period = mode(optimizer, float(pairs.values[0])).period or 0.0
        observed = _ring(network, theta, optimizer, pairs.vectors[:, 0], period)
        rows.append(compare("approach", 0, optimizer, pairs, observed))
    return rows


def noisy(
    network: Network, theta: np.ndarray, optimizer: Optimizer, random: RandomStreams, *, steps: int
) -> list[Comparison]:
    """Add white gradient noise at a minimum of the loss alone and read the modes' frequencies."""
    generator = random.generator("harmonics noise")
    noise = 1e-6 * generator.normal(size=(steps, theta.size))
    path, _ = train(rest(theta), optimizer, lambda x, t: network.gradient(x) + noise[t], steps)
    pairs = certified_pairs(network, theta)
    signals = (path - theta) @ pairs.vectors
    return [
        compare("noise", index, optimizer, pairs, autoregression(signals[:, index]))
        for index, value in enumerate(map(float, pairs.values))
        if resolvable(mode(optimizer, value))
    ]


def under_adam(
    network: Network, theta: np.ndarray, momentum: float, random: RandomStreams, *, steps: int, share: float
) -> tuple[list[Comparison], float]:
    """Train with Adam itself, its moments alive, on batches, and compare with its moments held fixed.

    Each step weighs the examples by 1 + 0.01 z with standard normal z, as very large batches would. The
    prediction takes the mean of the bias-corrected second moments over the record.

    Args:
        network: Without decay.
        theta: Its minimum.
        momentum: Beta_1.
        random: Source of the weights.
        steps: Recorded steps; 5,000 go before them.
        share: Top eigenvalue, with the moments of the batches at the minimum, in units of the edge.

    Returns:
        The rows, and the scatter of the second moments over the record: the mean over parameters of the
        standard deviation of sqrt(v), relative to its mean.
    """
    wait = 5000
    generator = random.generator("harmonics batches")
    weights = 1 + _BATCH_NOISE * generator.normal(size=(wait + steps, network.targets.size))
    slopes = np.array([network.gradient(theta, weights[t]) for t in range(wait // 10)])
    start = certified_pairs(network, theta, preconditioner((slopes**2).mean(0), EPSILON))
    rate = share * Optimizer("adam", 1.0, momentum).edge / float(start.values[0])
    optimizer = Optimizer("adam", rate, momentum)

    def gradient(x: np.ndarray, t: int) -> np.ndarray:
        return network.gradient(x, weights[t])

    _, state = train(rest(theta), optimizer, gradient, wait)
    paths, moments = [], []
    for _ in range(steps // 100):
        path, state = train(state, optimizer, gradient, 100)
        paths.append(path)
        moments.append(state.second_moments)
    path, roots = np.concatenate(paths), np.sqrt(np.array(moments))
    scale = preconditioner(np.mean(moments, axis=0), EPSILON)
    pairs = certified_pairs(network, path.mean(0), scale)
    signals = ((path - path.mean(0)) / scale) @ pairs.vectors
    rows = [
        compare("adam", index, optimizer, pairs, autoregression(signals[:, index]))
        for index, value in enumerate(map(float, pairs.values))
        if resolvable(mode(optimizer, value))
    ]
    return rows, float(np.mean(roots.std(0) / roots.mean(0)))
