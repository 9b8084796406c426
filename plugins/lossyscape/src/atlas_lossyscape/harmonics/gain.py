"""How strongly a periodic drive moves a mode: gain of an added force, growth under a cyclic rate."""

from __future__ import annotations

import math

import numpy as np
from attrs import evolve

from atlas_lossyscape.harmonics.modes import Optimizer

__all__ = ["cyclic_growth", "gain", "resonant_frequency"]


def gain(optimizer: Optimizer, eigenvalue: float, frequency: float) -> float:
    """Return the steady amplitude of a mode per amplitude of a force of this frequency (radians a step).

    The order of batches adds f[t] to the gradient, so that x[t+1] - c x[t] + b x[t-1] = -eta f[t] and the
    gain is eta / |e^iw - c + b e^-iw| (docs/harmonics.md). Meaningful for stable modes alone.
    """
    z = complex(math.cos(frequency), math.sin(frequency))
    c, b = optimizer.recursion(eigenvalue)
    return optimizer.effective_rate / abs(z - c + b / z)


def resonant_frequency(optimizer: Optimizer, eigenvalue: float) -> float:
    """Return the drive at which `gain` is largest: cos w = c (1 + b) / (4 b), or an end, 0 or pi."""
    c, b = optimizer.recursion(eigenvalue)
    if b <= 0:  # the squared denominator has no least value within, but at an end
        return 0.0 if c > 0 else math.pi
    return math.acos(min(1.0, max(-1.0, c * (1 + b) / (4 * b))))


def cyclic_growth(
    optimizer: Optimizer, eigenvalue: float, steps: int, amplitude: float, turns: int = 1
) -> float:
    """Return the growth a step of a mode under the rate eta (1 + amplitude cos(2 pi turns t / steps)).

    At a minimum a cyclic rate adds no force, it varies the mode's own coefficient (Mathieu's case): the
    growth is log(spectral radius of the product of the matrices of all `steps`) / `steps` (Floquet).
    """
    product = np.eye(2)
    for t in range(steps):
        scale = 1 + amplitude * math.cos(2 * math.pi * turns * t / steps)
        c, b = evolve(optimizer, rate=scale * optimizer.rate).recursion(eigenvalue)
        product = np.array([[c, -b], [1.0, 0.0]]) @ product
    return math.log(float(np.abs(np.linalg.eigvals(product)).max())) / steps
