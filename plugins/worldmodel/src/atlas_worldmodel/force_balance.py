"""The force that recorded trajectories show, and what is left of it beside the forces of a world model.

A frame's point with its neighbours says with which velocity it was reached and left. Between the two lie half
a turn and half a kick of the step before, and half a kick and half a turn of the step after, all at that
point: the total force is what these must have been. What conservative, solenoidal and policy forces of the
model leave of it is the remainder; parts that are added up and taken away again would leave nothing, always.
"""

from __future__ import annotations

import torch

from atlas_worldmodel.attention_world import ForcesWorld
from atlas_worldmodel.joint import LatentSequence
from atlas_worldmodel.rollouts import Memory, arrival, limited
from atlas_worldmodel.splitting import State, kick, rotate

__all__ = ["unexplained"]


def unexplained(world: ForcesWorld, sequence: LatentSequence, memory: int) -> torch.Tensor:
    """Return the remainder at the frames that have steps on both sides, `[B, T - memory - 3, D]`.

    A change of velocity in the orthonormal frame, after all turns; it vanishes on trajectories that the world
    makes, as far as its memory holds velocities of arrival.

    Args:
        world: Whose forces.
        sequence: Its targets are read; at least `memory + 4` frames.
        memory: Points that are remembered, M.
    """
    points, actions = sequence.targets, sequence.actions
    batch, length = points.shape[:2]
    steps = length - memory - 2  # those that begin at the frames memory + 1, ..., length - 2
    passed = arrival(points[:, :-1], points[:, 1:])
    flat = (batch * steps, -1)

    def remembered(values: torch.Tensor, first: int) -> torch.Tensor:
        windows = values.unfold(1, memory, 1)[:, first : first + steps]  # [B, steps, ., M]
        return windows.transpose(2, 3).reshape(batch * steps, memory, -1)

    past = Memory(remembered(points, 1), remembered(passed.w, 0), remembered(actions, 1))
    tokens = world.tokens(sequence.centers, past)
    action = actions[:, memory + 1 :].reshape(flat)
    origin = torch.zeros_like(points[0, 0])
    here, there = points[:, memory + 1 : -1].reshape(flat), points[:, memory + 2 :].reshape(flat)
    before, after = (world.forces(z, origin, action, tokens) for z in (here, there))
    pushes = [world.total(here, before), world.total(there, after)]
    kept = torch.exp(-before.friction)
    # a step flies half its way with some velocity and half with what the friction keeps of it
    faster = 2 / (1 + kept)
    left = -arrival(there, here).w * faster
    reached = passed.w[:, memory + 1 :].reshape(flat) * (kept * faster)

    def of(values: torch.Tensor) -> torch.Tensor:
        return values.view(batch, steps, *values.shape[1:])

    state = State(points[:, memory + 2 : -1], of(reached)[:, :-1])
    state = limited(kick(rotate(state, of(after.field)[:, :-1], 0.5), of(pushes[1])[:, :-1], 0.5))
    state = limited(rotate(kick(state, of(pushes[0])[:, 1:], 0.5), of(before.field)[:, 1:], 0.5))
    remainder: torch.Tensor = of(left)[:, 1:] - state.w
    return remainder
