"""How modes swing about training that alternates between two points: the curvature at both, step by turn.

At the edge the top mode alternates, and the curvature with it. The two Hessians need not share eigenvectors,
so that a slow mode moves with the size of the alternation (self-stabilisation, Damian et al. 2023).
"""

from __future__ import annotations

import numpy as np

from atlas_lossyscape.harmonics.certificate import certified_pairs
from atlas_lossyscape.harmonics.modes import Optimizer
from atlas_lossyscape.harmonics.network import Network

__all__ = ["alternating_curvature", "response"]


def alternating_curvature(
    network: Network, optimizer: Optimizer, even: np.ndarray, odd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the certified Hessians `[n, n]` where the gradient is taken at even and at odd steps.

    Args:
        network: Without decay.
        optimizer: Gradient descent, heavy ball or Nesterov.
        even: Parameters at even steps, `[n]`.
        odd: Parameters at odd steps.
    """
    ahead = optimizer.beta if optimizer.rule == "nesterov" else 0.0
    found = []
    for now, before in ((even, odd), (odd, even)):
        pairs = certified_pairs(network, now + ahead * (now - before))
        found.append((pairs.vectors * pairs.values) @ pairs.vectors.T)
    return found[0], found[1]


def response(
    optimizer: Optimizer, curvature: tuple[np.ndarray, np.ndarray], axis: np.ndarray, steps: int
) -> np.ndarray:
    """Return how a push along a unit axis comes back along it, `[steps]`, the push at an even step.

    d[t+1] = d[t] + b (d[t] - d[t-1]) - h H[t] e, with e = d[t] for heavy ball and d[t] + b (d[t] - d[t-1])
    for Nesterov, and H[t] the curvature of even and odd steps in turn.
    """
    now, before = axis, axis
    signal = np.empty(steps)
    for t in range(steps):
        signal[t] = now @ axis
        ahead = now + optimizer.beta * (now - before)
        force = curvature[t % 2] @ (ahead if optimizer.rule == "nesterov" else now)
        now, before = ahead - optimizer.effective_rate * force, now
    return signal
