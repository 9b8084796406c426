"""A small ensemble of raw-state world models, for agents that have few transitions.

Each member maps a normalised observation and an action to the change of the observation, the reward, and
whether the episode goes on, and is fitted to its own draws of the data. An imagined path stays with one
member, so that where they disagree a policy meets several worlds and cannot live on the mistakes of one
(Chua et al. 2018, "Deep reinforcement learning in a handful of trials using probabilistic dynamics models").
A policy sees an observation where `policy.points_of` puts it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from atlas.randomness import RandomStreams
from atlas_worldmodel.imagination import WorldStep
from atlas_worldmodel.policy import points_of
from atlas_worldmodel.trajectories import Trajectories

__all__ = ["Ensemble", "Transitions", "transitions_of"]

_MARGIN = 0.1
"""Share of the seen range by which predictions may leave it."""


class Transitions(NamedTuple):
    """Steps of trajectories, apart from their order: `[M, ...]` float32."""

    observation: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    following: torch.Tensor
    goes_on: torch.Tensor


def transitions_of(data: Trajectories) -> Transitions:
    """Return all steps of trajectories."""
    mask = data.mask
    last = np.arange(mask.shape[1]) == data.lengths[:, None] - 1
    goes_on = ~(last & data.terminated[:, None])
    parts = (
        data.observations[:, :-1][mask],
        data.action_features()[mask],
        data.rewards[mask],
        data.observations[:, 1:][mask],
        goes_on[mask].astype(np.float32),
    )
    return Transitions(*(torch.from_numpy(part) for part in parts))


class Ensemble(nn.Module):
    """K residual networks with two hidden layers each, computed together.

    Args:
        observation: Numbers of an observation, O.
        action: Features of an action.
        members: K.
        hidden: Width.
        random: Streams that the initial weights are drawn from.
    """

    low: torch.Tensor
    high: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    change: torch.Tensor
    reward: torch.Tensor

    def __init__(
        self, observation: int, action: int, *, members: int, hidden: int, random: RandomStreams
    ) -> None:
        super().__init__()
        self.members = members
        sizes = (observation + action, hidden, hidden, observation + 2)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            drawn = random.generator("ensemble", layer).standard_normal((members, inputs, outputs))
            self.weights.append(torch.from_numpy(drawn / math.sqrt(inputs)).float())
            self.biases.append(torch.zeros(members, 1, outputs))
        for name, size in (("mean", observation), ("low", observation), ("high", observation), ("reward", 2)):
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("scale", torch.ones(observation))
        self.register_buffer("change", torch.ones(observation))

    def normalise(self, data: Transitions) -> None:
        """Take means, scales and ranges from data."""
        both = torch.cat([data.observation, data.following])
        least = 1e-3
        self.mean.copy_(both.mean(0))
        self.scale.copy_(both.std(0).clamp_min(least))
        self.change.copy_((data.following - data.observation).std(0).clamp_min(1e-6))
        self.reward.copy_(torch.stack([data.reward.mean(), data.reward.std().clamp_min(least)]))
        room = _MARGIN * (both.amax(0) - both.amin(0))
        self.low.copy_(both.amin(0) - room)
        self.high.copy_(both.amax(0) + room)

    def _outputs(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Return raw outputs `[K, B, O + 2]` of inputs `[K, B, ...]`."""
        x = torch.cat([(observation - self.mean) / self.scale, action], -1)
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if number < last:
                x = functional.silu(x)
        return x

    def loss(self, data: Transitions) -> torch.Tensor:
        """Return the mean squared error of change and reward in their own scales, with the end's entropy.

        Args:
            data: `[K, B, ...]`, each member's own draw.
        """
        out = self._outputs(data.observation, data.action)
        size = data.observation.shape[-1]
        change = (data.following - data.observation) / self.change
        reward = (data.reward - self.reward[0]) / self.reward[1]
        error = (out[..., :size] - change).square().mean() + (out[..., size] - reward).square().mean()
        return error + functional.binary_cross_entropy_with_logits(out[..., size + 1] + 4, data.goes_on)

    def begin(self, observation: torch.Tensor) -> torch.Tensor:
        """Return observations `[..., O]` themselves, which are the states here."""
        return observation

    def sight(self, observation: torch.Tensor) -> torch.Tensor:
        """Return where a policy sees observations `[..., O]`."""
        return points_of(observation, self.mean, self.scale)

    def point(self, state: torch.Tensor) -> torch.Tensor:
        """Return where a policy sees the states."""
        return self.sight(state)

    def step(self, state: torch.Tensor, action: torch.Tensor) -> WorldStep:
        """Act on observations `[B, O]`; the first B / K paths belong to the first member, and so on."""
        count = state.shape[0]
        shape = (self.members, count // self.members, -1)
        out = self._outputs(state.reshape(shape), action.reshape(shape)).reshape(count, -1)
        size = state.shape[-1]
        moved = state + self.change * out[:, :size]
        # The gradient passes where a prediction is held at the range's edge, so that a policy is led back.
        kept = moved + (torch.minimum(torch.maximum(moved, self.low), self.high) - moved).detach()
        reward = self.reward[0] + self.reward[1] * out[:, size]
        return WorldStep(kept, reward, torch.sigmoid(out[:, size + 1] + 4))
