"""How strongly a periodic drive moves a mode: gain of an added force, growth under a cyclic rate."""

from __future__ import annotations

import math

import numpy as np

from atlas_lossyscape.harmonics.modes import Optimizer

__all__ = ["cyclic_growth", "gain", "resonant_frequency"]


def gain(optimizer: Optimizer, eigenvalue: float, frequency: float) -> float:
    """Return the steady amplitude of a mode per amplitude of a force of this frequency (radians a step).

    The order of batches adds f[t] to the gradient, so that x[t+1] - c x[t] + b x[t-1] = -eta f[t] and the
    gain is eta / |e^iw - c + b e^-iw| (docs/harmonics.md). Meaningful for stable modes alone.
    """
    z = complex(math.cos(frequency), math.sin(frequency))
    c, b = optimizer.coefficient(eigenvalue), optimizer.beta
    return optimizer.effective_rate / abs(z - c + b / z)


def resonant_frequency(optimizer: Optimizer, eigenvalue: float) -> float:
    """Return the drive at which `gain` is largest: cos w = c (1 + b) / (4 b), or an end, 0 or pi."""
    c, b = optimizer.coefficient(eigenvalue), optimizer.beta
    if b == 0:
        return 0.0 if c > 0 else math.pi
    return math.acos(min(1.0, max(-1.0, c * (1 + b) / (4 * b))))


def cyclic_growth(optimizer: Optimizer, eigenvalue: float, period: int, amplitude: float) -> float:
    """Return the growth rate a step of a mode under the rate eta (1 + amplitude cos(2 pi t / period)).

    At a minimum a cyclic rate adds no force, it varies the mode's own coefficient (Mathieu's case): the
    growth is log(spectral radius of the product of the period's matrices) / period (Floquet).
    """
    b = optimizer.beta
    product = np.eye(2)
    for t in range(period):
        scale = 1 + amplitude * math.cos(2 * math.pi * t / period)
        c = 1 + b - scale * (1 + b - optimizer.coefficient(eigenvalue))
        product = np.array([[c, -b], [1.0, 0.0]]) @ product
    radius = float(np.abs(np.linalg.eigvals(product)).max())
    return math.log(radius) / period
