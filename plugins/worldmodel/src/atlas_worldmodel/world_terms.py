"""Loss terms of the learned world, summed by a manifest's weights. Seed 002, sections 4, 5 and 6."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import distance, logmap0_difference

from atlas.contracts import LossTerm
from atlas_worldmodel.model import Path

__all__ = ["WORLD_SLOT", "WORLD_TERMS", "WorldOutputs", "wrapped_normal"]

WORLD_SLOT = "worldmodel.path"


class WorldOutputs(NamedTuple):
    """A predicted path with what was recorded; a tuple, so that a compiled loss can make one.

    Attributes:
        path: Predicted.
        target: Points of the recorded frames, `[B, H, D]`; an angle on the path's side of where it closes.
        observations: Recorded, `[B, H, O]`.
        rewards: Recorded, `[B, H]`.
        scale: Typical change of each number of an observation in a frame, `[O]`.
        reward_scale: Scatter of the rewards.
        metric: Diagonal `[D]`, mean 1: exponential average of the squared slope of the potential.
        spread: Standard deviation of a frame's end about its prediction, positive.
        unit: Typical change of a velocity in a frame.
    """

    path: Path
    target: torch.Tensor
    observations: torch.Tensor
    rewards: torch.Tensor
    scale: torch.Tensor
    reward_scale: torch.Tensor
    metric: torch.Tensor
    spread: torch.Tensor
    unit: torch.Tensor


def wrapped_normal(z: torch.Tensor, center: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Return the log-density of the wrapped normal at points `[..., D]`, by hyperbolic volume, `[...]`.

    Nagano and others 2019, "A wrapped normal distribution on hyperbolic space": the normal density of
    `v = log_center(z)`, less `(D - 1) log(sinh |v| / |v|)`, the exponential's log-determinant.
    """
    v = 2 * logmap0_difference(center, z)
    square = v.square().sum(-1)
    r = square.clamp_min(1e-12).sqrt()
    stretch = torch.where(r < 1e-2, square / 6, torch.log(torch.sinh(r.clamp_min(1e-2)) / r.clamp_min(1e-2)))
    size = z.shape[-1]
    normal = -square / (2 * spread.square()) - size * (spread.log() + math.log(2 * math.pi) / 2)
    return normal - (size - 1) * stretch


def observation(outputs: WorldOutputs) -> torch.Tensor:
    """Return the mean squared error of observations, in units of their change in a frame."""
    return ((outputs.path.observations - outputs.observations) / outputs.scale).square().mean()


def geodesic(outputs: WorldOutputs) -> torch.Tensor:
    """Return the mean distance of points in units of a frame's change."""
    return distance(outputs.path.states.z, outputs.target).mean() / outputs.unit


def weighted(outputs: WorldOutputs) -> torch.Tensor:
    """Return the squared geodesic error by axis, weighted by the metric, in units of a frame's change."""
    miss = 2 * logmap0_difference(outputs.target, outputs.path.states.z) / outputs.unit
    return (outputs.metric * miss.square()).sum(-1).mean()


def likelihood(outputs: WorldOutputs) -> torch.Tensor:
    """Return `-log p` of the first frame's end given its beginning and action, a dimension."""
    found = wrapped_normal(outputs.target[:, 0], outputs.path.states.z[:, 0], outputs.spread)
    return -found.mean() / outputs.target.shape[-1]


def momentum(outputs: WorldOutputs) -> torch.Tensor:
    """Return the mean kinetic energy."""
    return outputs.path.states.kinetic_energy.mean()


def energy(outputs: WorldOutputs) -> torch.Tensor:
    """Return the mean squared change of energy that work and heat do not explain, in units of `unit`."""
    path = outputs.path
    left = path.energies[:, 1:] - path.energies[:, :1] - path.work - path.heat
    return (left / outputs.unit).square().mean()


def reward(outputs: WorldOutputs) -> torch.Tensor:
    """Return the mean squared error of rewards in units of their scatter."""
    return ((outputs.path.rewards - outputs.rewards) / outputs.reward_scale).square().mean()


_DYNAMICS = "seed 002, section 6, dynamics loss"

WORLD_TERMS = {
    term.name: term
    for term in (
        LossTerm(
            "world-observation",
            WORLD_SLOT,
            observation,
            1.0,
            "world-model",
            "mean ((o - o') / s)^2",
            "ours: the error in what was measured",
        ),
        LossTerm(
            "world-geodesic",
            WORLD_SLOT,
            geodesic,
            0.0,
            "world-model",
            "mean d(z, z') / unit",
            f"{_DYNAMICS} 1",
        ),
        LossTerm(
            "world-metric",
            WORLD_SLOT,
            weighted,
            0.0,
            "world-model",
            "mean sum_i G_ii log_z'(z)_i^2 / unit^2",
            "seed 002, section 4.C.1 with the metric of section 5",
        ),
        LossTerm(
            "world-likelihood",
            WORLD_SLOT,
            likelihood,
            0.0,
            "world-model",
            "-log p(z' | z, a) / D",
            "seed 002, section 4.C.2; Nagano and others 2019",
        ),
        LossTerm(
            "world-momentum",
            WORLD_SLOT,
            momentum,
            0.0,
            "world-model",
            "mean |w|^2 / 2",
            f"{_DYNAMICS} 3",
        ),
        LossTerm(
            "world-energy",
            WORLD_SLOT,
            energy,
            0.0,
            "world-model",
            "mean ((H_t - H_0 - W - Q) / unit)^2",
            f"{_DYNAMICS} 4, less work and heat",
        ),
        LossTerm(
            "world-reward",
            WORLD_SLOT,
            reward,
            0.1,
            "world-model",
            "mean ((rho_r dt + <R, dz> - r) / s)^2",
            "issue 6: reward; seed 002, section 2",
        ),
    )
}
"""By name; those of weight 0 are off unless a manifest weighs them."""
