"""The learned mechanical world as one that agents imagine through, from the file of a step `worldmodel`.

A moment is the mechanical state with what acts there, so that a frame asks for the forces once and paths in
imagination have the states, bit for bit, of the model's own open loop. A policy sees what would be observed
of a moment, as it does where it plays. The world is constant: gradients pass through it to the actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from atlas_worldmodel.frames import Acting
from atlas_worldmodel.imagination import WorldStep
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.policy import points_of
from atlas_worldmodel.splitting import State
from atlas_worldmodel.trajectories import Trajectories

__all__ = ["MechanicalWorld", "Moment"]


class Moment(NamedTuple):
    """Where paths are.

    Attributes:
        state: Points and velocities, `[B, D]`.
        acting: What acts there.
        observation: What is observed there, `[B, O]`.
    """

    state: State
    acting: Acting
    observation: torch.Tensor


class MechanicalWorld(nn.Module):
    """A learned `WorldModel` between actions: `imagination.World` over moments.

    It knows no ends: every episode goes on.

    Args:
        model: Trained; it becomes constant.
        facts: That rebuild the model, from its file.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, model: WorldModel, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.facts = model.requires_grad_(False), dict(facts)
        size = sum(len(one.columns) for one in model.chart.coordinates)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def normalise(self, data: Trajectories) -> None:
        """Take from trajectories where the policy sees the average observation, and how far a usual one."""
        seen = torch.from_numpy(data.observations[data.seen])
        self.mean.copy_(seen.mean(0))
        self.scale.copy_(seen.std(0).clamp_min(1e-3))

    def sight(self, observation: torch.Tensor) -> torch.Tensor:
        """Return where a policy sees observations `[..., O]`."""
        return points_of(observation, self.mean, self.scale)

    def begin(self, observation: torch.Tensor) -> Moment:
        """Return the moments in which `[B, O]` are observed."""
        state = self.model.begin(observation)
        return Moment(state, self.model.act(state.z), observation)

    def point(self, state: Moment) -> torch.Tensor:
        """Return where a policy sees the states, `[B, O]`: the points of what is observed."""
        return self.sight(state.observation)

    def step(self, state: Moment, action: torch.Tensor) -> WorldStep:
        """Act for a frame, with features `[B, A]` of actions: one step of `WorldModel.roll`."""
        forces = _Kept(self.model, state)
        path = self.model.roll(forces, state.state, action.unsqueeze(1))
        after = State(path.states.z[:, 0], path.states.w[:, 0])
        moment = Moment(after, forces.last, path.observations[:, 0])
        reward = path.rewards[:, 0]
        return WorldStep(moment, reward, torch.ones_like(reward))


class _Kept:
    """The forces of a model, of which those of a moment are known; the latest are kept."""

    def __init__(self, model: WorldModel, moment: Moment) -> None:
        self._model, self._moment, self.last = model, moment, moment.acting

    def __call__(self, z: torch.Tensor) -> Acting:
        if z is not self._moment.state.z:
            self.last = self._model.act(z)
        return self.last
