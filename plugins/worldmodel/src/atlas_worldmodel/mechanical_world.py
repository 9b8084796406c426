"""The learned mechanical world as one that agents imagine through, from the file of a step `worldmodel`.

A moment is the mechanical state with what acts there, so that a frame asks for the forces once and paths in
imagination have the states, bit for bit, of the model's own open loop. A policy sees what would be observed
of a moment, as it does where it plays. The world is constant: gradients pass through it to the actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from attrs import frozen
from torch import nn

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas_worldmodel.environments import Environment
from atlas_worldmodel.frames import Acting
from atlas_worldmodel.imagination import WorldStep
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.phase_state import seen_trajectories
from atlas_worldmodel.policy import points_of
from atlas_worldmodel.splitting import State
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_state import WORLD_FILE, read_world, world_of

__all__ = ["GivenWorld", "MechanicalWorld", "Moment", "given_world"]


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


@frozen(eq=False)
class GivenWorld:
    """A world that was learned before an agent begins.

    Attributes:
        world: Constant.
        data: The trajectories that it was learned and judged by; paths begin at their observations.
    """

    world: MechanicalWorld
    data: Trajectories


def given_world(context: StepContext, environment: Environment) -> GivenWorld:
    """Open the world and the trajectories that a step sees.

    Raises:
        BadInput: It does not see one of each, or they, the world and the environment do not belong together.
    """
    where = f"steps.{context.step}.sees"
    found = [copy for path, copy in context.inputs.items() if path.endswith(f"/{WORLD_FILE}")]
    if len(found) != 1:
        raise BadInput(
            f"the step sees {len(found)} learned worlds, expected one",
            where=where,
            fix="add `{from: STEP.raw}` with a step that uses `worldmodel`, or set `world: ensemble`",
        )
    data = seen_trajectories(context)
    tensors, facts = read_world(found[0])
    world = MechanicalWorld(world_of(tensors, facts, where=where), facts)
    if "encoder" in facts:
        raise BadInput(
            "the world was learned from encoded frames, and an agent imagines from observations",
            where=where,
            fix="let it see a step `worldmodel` whose `coordinates` are numbers of an observation",
        )
    if facts["trajectories"] != data.digest:
        raise BadInput(
            "the world was learned from other trajectories than the step sees",
            where=where,
            fix="let `worldmodel` and `agent` see the same step's trajectories",
        )
    if not data.environment.endswith(f", {environment.name}"):
        raise BadInput(
            f"the world was learned from {data.environment}, and the agent acts in {environment.name}",
            where=f"steps.{context.step}.params.environment",
            fix="collect in the agent's environment, with the same `action_repeat`",
        )
    if data.terminated.any():
        raise BadInput(
            f"{int(data.terminated.sum())} trajectories ended in a state from which nothing follows, and "
            "a mechanical world knows no ends",
            where=where,
            fix="set `world: ensemble`, which learns them",
        )
    world.normalise(data)
    return GivenWorld(world, data)
