"""Training held at the edge of stability, and how the modes swing there.

The rate is raised past what the minimum bears, or Adam's second moments shrink until it is past: the top
mode then alternates with a size at which the gradient across its swing is that of the edge (Cohen et al.
2021). The other modes stay below the edge. They are read from pairs of runs that differ by a small push, and
compared with the curvature at the mean parameters and, besides, with that at both ends of the alternation.
"""

from __future__ import annotations

import math

import numpy as np
from attrs import evolve, frozen

from atlas.errors import InstrumentFailed
from atlas.randomness import RandomStreams
from atlas_lossyscape.harmonics.certificate import certified_pairs
from atlas_lossyscape.harmonics.comparison import Comparison, compare, resolvable
from atlas_lossyscape.harmonics.modes import Optimizer, Rule, mode, preconditioner
from atlas_lossyscape.harmonics.network import Network
from atlas_lossyscape.harmonics.orbit import alternating_curvature, response
from atlas_lossyscape.harmonics.signals import from_repeats, from_windows, matrix_pencil
from atlas_lossyscape.harmonics.training import EPSILON, State, rest, train

__all__ = ["ADAM_RATE", "AtEdge", "at_edge"]

RAMP, HOLD, APART, KICKS = 3000, 3000, 40, 24
OVERS = (1.0025, 1.001)
NUDGE, PUSH = 1e-3, 1e-9
ADAM_RATE = 1e-3
"""Learning rate of Adam at its edge."""


@frozen
class AtEdge:
    """What training at the edge has shown.

    Attributes:
        rows: The top mode, read from its own motion, and each other mode that can be resolved.
        sharpness: Largest eigenvalue at the mean parameters, in units of the rule's edge.
        bound: Its residual norm, in the same units.
        over: The rate, in units of what the minimum bears; 1 for Adam.
    """

    rows: tuple[Comparison, ...]
    sharpness: float
    bound: float
    over: float


def at_edge(
    network: Network, theta: np.ndarray, rule: Rule, momentum: float, random: RandomStreams
) -> AtEdge:
    """Train on the whole data to the edge and compare every resolvable mode there.

    Gradient descent, heavy ball and Nesterov start at half the rate that the minimum bears, which rises in
    3,000 steps to 0.25% above it, or where training escapes to 0.1%; a small nudge then sets the swing
    going. Adam keeps its rate of 0.001: near a minimum its second moments fall with the gradient until its
    preconditioned Hessian is at the edge (Cohen et al. 2022).

    Args:
        network: Without decay.
        theta: Its minimum.
        rule: The optimiser.
        momentum: Beta, or beta_1; not read for `gd`.
        random: Source of the nudge.

    Raises:
        InstrumentFailed: Training escapes at each of the rates.
    """
    nudge = NUDGE * random.generator("harmonics start").normal(size=theta.size)
    if rule == "adam":
        return _held(network, theta, nudge, Optimizer(rule, ADAM_RATE, momentum), 1.0)
    most = Optimizer(rule, 1.0, momentum).edge / float(certified_pairs(network, theta).values[0])
    try:
        return _held(network, theta, nudge, Optimizer(rule, OVERS[0] * most, momentum), OVERS[0])
    except InstrumentFailed:  # it escaped: a smaller excess may hold
        return _held(network, theta, nudge, Optimizer(rule, OVERS[1] * most, momentum), OVERS[1])


def _held(
    network: Network, theta: np.ndarray, nudge: np.ndarray, optimizer: Optimizer, over: float
) -> AtEdge:
    adam = optimizer.rule == "adam"

    def rising(t: int) -> float:
        return 1.0 if adam else min(1.0, 0.5 + 0.5 * t / RAMP)

    def gradient(x: np.ndarray, _: int) -> np.ndarray:
        return network.gradient(x)

    _, state = train(rest(theta + nudge), optimizer, gradient, RAMP, rising)
    if not adam:  # what swung has died below the edge
        state = state.pushed(nudge)
    _, state = train(state, optimizer, gradient, HOLD, rising)
    states, paths = [], []
    for _ in range(KICKS):
        states.append(state)
        path, state = train(state, optimizer, gradient, APART)
        paths.append(path)
    path = np.concatenate(paths)
    scale = np.ones_like(theta)
    if adam:
        scale = preconditioner(np.mean([s.second_moments for s in states], axis=0), EPSILON)
    pairs = certified_pairs(network, path.mean(0), scale)
    swings = ((path - path.mean(0)) / scale) @ pairs.vectors

    def returned(state: State, axis: np.ndarray, steps: int) -> np.ndarray:
        """Return how a push along an axis comes back, per unit of it."""
        pushed, _ = train(state.pushed(PUSH * scale * axis), optimizer, gradient, steps)
        left, _ = train(state, optimizer, gradient, steps)
        return np.asarray((pushed - left) / scale @ axis / PUSH)

    curvature = (
        None if adam else alternating_curvature(network, optimizer, path[::2].mean(0), path[1::2].mean(0))
    )
    leg = f"edge-{optimizer.rule}"
    rows = [compare(leg, 0, optimizer, pairs, from_windows(swings[:, 0], KICKS))]
    for index in range(1, pairs.values.size):
        expected = mode(optimizer, float(pairs.values[index]))
        if resolvable(expected):
            axis, steps = pairs.vectors[:, index], max(48, math.ceil(4 / expected.damping))
            responses = np.array([returned(state, axis, steps) for state in states])
            row = compare(leg, index, optimizer, pairs, from_repeats(responses))
            if curvature is not None:
                both, _ = matrix_pencil(response(optimizer, curvature, axis, steps))
                row = evolve(row, both_ends=both)
            rows.append(row)
    return AtEdge(
        rows=tuple(rows),
        sharpness=float(pairs.values[0]) / optimizer.edge,
        bound=float(pairs.residual_norms[0]) / optimizer.edge,
        over=over,
    )
