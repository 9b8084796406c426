"""Initial weights of a TopoEncoder, each tensor drawn from a stream of its own, and their fit to data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from atlas.randomness import RandomStreams
from atlas_topoencoder.spectral import NormGatedGELU, SpectralLinear

if TYPE_CHECKING:
    from atlas_topoencoder.model import TopoEncoder

__all__ = ["draw_weights", "repelled_directions", "standardise"]

_CENTER_LENGTH = 0.5
"""Of the tangent vector of an initial chart centre."""
_CODE_LENGTH = 0.25
"""Of the tangent vector of an initial code."""
_PROJECTOR_NORM = 4.0
"""Spectral norm of the decoder's initial projectors: a tangent vector of length 1, spread over 256 features,
then has bundles of norms about which the gates bend."""
_GATE_OFFSET = -1.0
"""Initial offset of the gates of extractor and decoder. At 0 a gate lies between 1/2 and 1 and is all but
linear."""


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

    The structure filter begins as the identity, so that the nuisance begins as a shrunken residual and not
    as a turned one. Other spectral maps begin orthogonal, of norm 1; the charts' projectors begin as one, of
    norm 4, so that a decoder that was trained before charts were placed is every chart's. Other maps begin
    uniform within the inverse root of what they read; centres and codes in repelled directions.
    """
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            generator = random.generator("initial weights", name=f"{name}.{own}")
            value = _draw(name, module, own, tuple(parameter.shape), generator)
            if value is not None:
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def _draw(
    owner: str, module: nn.Module, name: str, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray | None:
    """Return the initial value of a parameter, or None for one that keeps the value it was made with."""
    if isinstance(module, SpectralLinear) and name == "weight" and owner.startswith("structure_filter"):
        return np.eye(shape[0])
    if isinstance(module, SpectralLinear) and name == "weight":
        maps, outputs = module.left.shape
        if owner == "decoder.project":
            return _PROJECTOR_NORM * np.tile(_orthogonal(outputs, shape[1], generator), (maps, 1))
        return np.concatenate([_orthogonal(outputs, shape[1], generator) for _ in range(maps)])
    if isinstance(module, NormGatedGELU) and not owner.startswith("structure_filter"):
        return np.full(shape, _GATE_OFFSET)
    if name == "centers_tangent":
        return _CENTER_LENGTH * repelled_directions(shape[0], shape[1], generator)
    if name == "tangent":
        directions = repelled_directions(shape[0] * shape[1], shape[2], generator)
        return (_CODE_LENGTH * directions).reshape(shape)
    if name == "bias" and isinstance(module, (nn.Linear, nn.Conv2d)):
        return np.zeros(shape)
    if name in ("weight", "inner", "outer", "queries") and len(shape) > 1:
        fan_in = shape[1] if name in ("inner", "outer") else math.prod(shape[1:])
        bound = 1 / math.sqrt(fan_in)
        return generator.uniform(-bound, bound, shape)
    return None


@torch.no_grad()
def standardise(model: TopoEncoder, x: torch.Tensor) -> None:
    """Fit the first and last offsets and the latent scale to data, before the first step of training.

    The reconstruction begins at the mean of the data; latent points and details begin centred at the origin,
    at a mean tangent length of 1. Without it they begin in one direction from the origin, far out, in one
    chart.

    Args:
        model: Changed in place.
        x: Examples `[N, *shape]`, some hundreds or more.
    """
    last = model.decoder.render[-1]
    assert isinstance(last, SpectralLinear) and last.bias is not None
    last.bias.copy_(x.mean(0).flatten())
    features = model.extractor(x)
    for head in (model.value, model.detail):
        if head is not None:
            value = head(features)
            centre = value.mean(0)
            scale = 1 / torch.linalg.vector_norm(value - centre, dim=1).mean().clamp_min(1e-6)
            head.weight.mul_(scale)
            head.bias.copy_((head.bias - centre) * scale)
