"""Paths of a world model: what it is given when it begins, what it remembers, and its predictions in a row.

A world model is anything that makes one step (`World`). Time is counted in steps of the environment.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from atlas_topoencoder.geometry import logmap0_difference, project

from atlas_worldmodel.splitting import State

__all__ = ["MAX_SPEED", "Memory", "Opening", "World", "arrival", "limited", "opening", "remember", "rollout"]

MAX_SPEED = 6.0
"""Distance a step, the radius that float32 bears: from within it, a step ends where points are told apart."""


class Memory(NamedTuple):
    """The points lately passed, oldest first.

    Attributes:
        points: `[B, M, D]`.
        velocities: In the orthonormal frame of each, `[B, M, D]`.
        actions: Done there, `[B, M, A]`.
    """

    points: torch.Tensor
    velocities: torch.Tensor
    actions: torch.Tensor


class Opening(NamedTuple):
    """What is known when a prediction begins.

    Attributes:
        state: The last given point, with the velocity at which it was reached.
        before: The action that led to it, `[B, A]`.
        memory: Of the points before it.
        ahead: The actions to come, `[B, H, A]`.
    """

    state: State
    before: torch.Tensor
    memory: Memory
    ahead: torch.Tensor


class World(Protocol):
    """A model of one step, and of the velocity with which the first begins."""

    def begin(
        self,
        state: State,
        before: torch.Tensor,
        memory: Memory,
        centers: torch.Tensor,
        origin: torch.Tensor,
    ) -> State:
        """Return the state at a point that was reached with a velocity, after an action `[B, A]`."""
        ...

    def __call__(
        self,
        state: State,
        action: torch.Tensor,
        memory: Memory,
        centers: torch.Tensor,
        origin: torch.Tensor,
    ) -> State:
        """Return the state a step later.

        Args:
            state: Points `[B, D]` and velocities.
            action: `[B, A]`.
            memory: Of the points before.
            centers: Of the charts, `[N_c, D]`.
            origin: What temperature and geodesic terms refer to, `[D]`.
        """
        ...


def remember(memory: Memory, state: State, action: torch.Tensor) -> Memory:
    """Return the memory with its oldest point replaced by a new one, the newest."""
    return Memory(
        torch.cat((memory.points[:, 1:], state.z.unsqueeze(1)), 1),
        torch.cat((memory.velocities[:, 1:], state.w.unsqueeze(1)), 1),
        torch.cat((memory.actions[:, 1:], action.unsqueeze(1)), 1),
    )


def limited(state: State) -> State:
    """Return the state with its velocity shortened to `MAX_SPEED`; isometries commute with it."""
    speed = state.w.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
    return State(state.z, state.w * (MAX_SPEED / speed).clamp_max(1.0))


def arrival(before: torch.Tensor, now: torch.Tensor) -> State:
    """Return the state at points `[..., D]` reached by geodesics from those a unit of time before."""
    return State(now, -2 * logmap0_difference(now, before))


def opening(points: torch.Tensor, actions: torch.Tensor, memory: int) -> Opening:
    """Return what the first `memory + 2` frames give.

    Velocities are those of arrival, so that the first frame serves the second's alone.

    Args:
        points: Of a sequence, `[B, T, D]`, T at least `memory + 3`.
        actions: `[B, T - 1, A]`.
        memory: Points that are remembered, M.
    """
    passed = arrival(points[:, : memory + 1], points[:, 1 : memory + 2])
    return Opening(
        State(passed.z[:, -1], passed.w[:, -1]),
        actions[:, memory],
        Memory(passed.z[:, :-1], passed.w[:, :-1], actions[:, 1 : memory + 1]),
        actions[:, memory + 1 :],
    )


def rollout(
    world: World,
    begin: Opening,
    centers: torch.Tensor,
    origin: torch.Tensor | None = None,
    max_radius: float = 6.0,
) -> torch.Tensor:
    """Return the points that a world model passes, `[B, H, D]`, fed with its own predictions.

    A point that leaves the radius is put back onto it along its ray, as an encoder's points are: float32
    loses the ball's edge.

    Args:
        world: The model.
        begin: What is known when it begins.
        centers: Of the charts, `[N_c, D]`.
        origin: `[D]`; zero where None.
        max_radius: Hyperbolic distance from zero within which points are kept.
    """
    origin = torch.zeros_like(centers[0]) if origin is None else origin
    memory = begin.memory
    state = world.begin(begin.state, begin.before, memory, centers, origin)
    passed = []
    for action in begin.ahead.unbind(1):
        after = world(state, action, memory, centers, origin)
        memory = remember(memory, state, action)
        state = State(project(after.z, max_radius), after.w)
        passed.append(state.z)
    return torch.stack(passed, 1)
