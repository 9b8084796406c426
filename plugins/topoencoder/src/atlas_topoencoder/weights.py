"""Initial weights of a TopoEncoder, each tensor drawn from a stream of its own."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from atlas.randomness import RandomStreams
from atlas_topoencoder.quantiser import StructureFilter
from atlas_topoencoder.spectral import SpectralLinear

__all__ = ["draw_weights", "repelled_directions"]

_CENTER_LENGTH = 0.5
"""Of the tangent vector of an initial chart centre."""
_CODE_LENGTH = 0.25
"""Of the tangent vector of an initial code."""


def repelled_directions(number: int, dimensions: int, generator: np.random.Generator) -> np.ndarray:
    """Return unit vectors `[number, dimensions]` that are spread out by repulsion from a random start."""
    x = generator.standard_normal((number, dimensions))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for step in range(100 if number > 1 else 0):
        gap = x[:, None] - x[None]
        sq = (gap**2).sum(-1) + np.eye(number)
        force = (gap / sq[..., None] ** 1.5).sum(1)
        force -= (force * x).sum(1, keepdims=True) * x
        x += 0.5 * (1 - step / 100) * force / max(np.linalg.norm(force, axis=1).max(), 1e-12)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def _orthogonal(rows: int, columns: int, generator: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return q if rows >= columns else q.T


def draw_weights(model: nn.Module, random: RandomStreams) -> None:
    """Draw every parameter of a TopoEncoder in place; on the CPU, in float64, each from its own stream.

    Spectral maps begin orthogonal, at the bound of norm 1; other maps uniform within the inverse root of
    what they read; the quadratic form of a router small; centres and codes in repelled directions. The
    structure filter's second map begins as the transpose of its first, so that the nuisance begins as a
    shrunken residual and not as a turned one.
    """
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            generator = random.generator("initial weights", name=f"{name}.{own}")
            value = _draw(module, own, tuple(parameter.shape), generator)
            if value is not None:
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    for module in model.modules():
        if isinstance(module, StructureFilter):
            with torch.no_grad():
                module.outer.weight.copy_(module.inner.weight.mT)


def _draw(
    module: nn.Module, name: str, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray | None:
    """Return the initial value of a parameter, or None for one that keeps the value it was made with."""
    if isinstance(module, SpectralLinear) and name == "weight":
        maps, outputs = module.left.shape
        return np.concatenate([_orthogonal(outputs, shape[1], generator) for _ in range(maps)])
    if name == "centers_tangent":
        return _CENTER_LENGTH * repelled_directions(shape[0], shape[1], generator)
    if name == "tangent":
        directions = repelled_directions(shape[0] * shape[1], shape[2], generator)
        return (_CODE_LENGTH * directions).reshape(shape)
    if name in ("weight", "inner", "outer", "queries") and len(shape) > 1:
        fan_in = shape[1] if name in ("inner", "outer") else math.prod(shape[1:])
        bound = 1 / math.sqrt(fan_in)
        return generator.uniform(-bound, bound, shape)
    return None
