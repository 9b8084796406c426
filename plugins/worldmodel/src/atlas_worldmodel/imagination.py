"""Paths that a policy imagines through a world model, and their returns.

A world takes a state and an action to the next state, its reward and whether the episode goes on, all
differentiable, so that the return of an imagined path has a gradient by the policy through every step of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch

from atlas_worldmodel.policy import ForceLaw, Policy

__all__ = ["Draws", "Imagined", "World", "WorldStep", "draw_paths", "imagine", "lambda_returns"]


class WorldStep(NamedTuple):
    """What a world makes of an action.

    Attributes:
        state: The next state, of the world's own kind.
        reward: `[B]`.
        goes_on: Probability that the episode does not end there, `[B]`.
    """

    state: Any
    reward: torch.Tensor
    goes_on: torch.Tensor


class World(Protocol):
    """A model that can be imagined through."""

    def point(self, state: Any) -> torch.Tensor:
        """Return where a policy sees the states, points of the ball `[B, D]`."""
        ...

    def step(self, state: Any, action: torch.Tensor) -> WorldStep:
        """Act, with features `[B, F]` of actions."""
        ...


class Imagined(NamedTuple):
    """Paths of H steps that a policy imagined from B states.

    Attributes:
        z: Points, `[H + 1, B, D]`.
        law: Force laws at the first H points.
        scores: Logarithms of the densities of what was drawn, `[H, B]`.
        rewards: `[H, B]`.
        goes_on: `[H, B]`.
    """

    z: torch.Tensor
    law: ForceLaw
    scores: torch.Tensor
    rewards: torch.Tensor
    goes_on: torch.Tensor


class Draws(NamedTuple):
    """What is drawn for paths of H steps from B states, apart from the policy.

    Attributes:
        noise: Of the forces, standard normal, `[H, B, D]`.
        uniform: Of the choices, in 0 .. 1, `[H, B]`.
    """

    noise: torch.Tensor
    uniform: torch.Tensor


def draw_paths(horizon: int, paths: int, latent: int, generator: torch.Generator) -> Draws:
    """Draw for paths in a ball of `latent` dimensions, on the CPU, so that all devices get the same."""
    drawn = [
        (torch.randn(paths, latent, generator=generator), torch.rand(paths, generator=generator))
        for _ in range(horizon)
    ]
    return Draws(torch.stack([noise for noise, _ in drawn]), torch.stack([uniform for _, uniform in drawn]))


def imagine(world: World, policy: Policy, state: Any, draws: Draws) -> Imagined:
    """Return paths from states, under forces that the policy draws.

    Args:
        world: Differentiable; whether its own parameters get gradients is the caller's matter.
        policy: Acts.
        state: Of the world's kind, B of them.
        draws: Of the forces and choices; without noise the forces are the mean ones.
    """
    z = world.point(state)
    points, acted, rewards, goes_on = [z], [], [], []
    for noise, uniform in zip(*draws, strict=True):
        did = policy(z, noise, uniform)
        after = world.step(state, did.features)
        state, z = after.state, world.point(after.state)
        points.append(z)
        acted.append(did)
        rewards.append(after.reward)
        goes_on.append(after.goes_on)
    law = ForceLaw(
        torch.stack([did.law.mean for did in acted]), torch.stack([did.law.log_width for did in acted])
    )
    return Imagined(
        torch.stack(points),
        law,
        torch.stack([did.score for did in acted]),
        torch.stack(rewards),
        torch.stack(goes_on),
    )


def lambda_returns(
    rewards: torch.Tensor, goes_on: torch.Tensor, values: torch.Tensor, *, discount: float, trace: float
) -> torch.Tensor:
    """Return the TD(lambda) returns of H steps, `[H, ...]`.

    `R_t = r_t + discount c_t ((1 - trace) V_(t+1) + trace R_(t+1))`, `R_H = V_H`: the mean of n-step returns
    with geometric weights (Sutton 1988).

    Args:
        rewards: `[H, ...]`.
        goes_on: `[H, ...]`, c_t.
        values: `[H + 1, ...]`.
        discount: Per step.
        trace: lambda; 0 looks one step ahead, 1 to the end.
    """
    found = values[-1]
    returns = []
    for step in range(len(rewards) - 1, -1, -1):
        ahead = (1 - trace) * values[step + 1] + trace * found
        found = rewards[step] + discount * goes_on[step] * ahead
        returns.append(found)
    return torch.stack(returns[::-1])
