"""What policy and value say of paths, imagined or played: the outputs that loss terms read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from atlas_worldmodel.imagination import Imagined, lambda_returns
from atlas_worldmodel.policy import Policy, Value
from atlas_worldmodel.policy_terms import PolicyOutputs
from atlas_worldmodel.trajectories import Trajectories

__all__ = ["imagined_outputs", "played_outputs"]


def imagined_outputs(
    path: Imagined, value: Value, slow_value: Value, *, unit: torch.Tensor, discount: float, trace: float
) -> PolicyOutputs:
    """Return the outputs of imagined paths, the returns with their graph through the world.

    Args:
        path: H steps from B states.
        value: Live; it reads points without their graph.
        slow_value: What paths end with, its own parameters constant.
        unit: What a value of 1 is worth in rewards.
        discount: Per step.
        trace: lambda of TD(lambda).
    """
    with torch.no_grad():
        ones = torch.ones_like(path.goes_on[:1])
        reached = torch.cat([ones, path.goes_on[:-1]]).cumprod(0)
    returns = lambda_returns(
        path.rewards / unit, path.goes_on, slow_value(path.z), discount=discount, trace=trace
    )
    return PolicyOutputs(path.z, path.law, path.scores, returns, value(path.z[:-1].detach()), reached)


def played_outputs(
    policy: Policy,
    value: Value,
    z: torch.Tensor,
    data: Trajectories,
    drawn: Sequence[tuple[torch.Tensor, torch.Tensor]],
    *,
    unit: torch.Tensor,
    discount: float,
    trace: float,
) -> PolicyOutputs:
    """Return the outputs of episodes that the policy, as it is, has played.

    Args:
        policy: Which played.
        value: The baseline, and what an episode goes on with that a limit of time has cut.
        z: Points of the observations, `[T + 1, N, D]`.
        data: The N episodes.
        drawn: Noise of each one's forces, `[T or more, D]`, and choices, `[T or more]`.
        unit: What a value of 1 is worth in rewards.
        discount: Per step.
        trace: lambda of TD(lambda).
    """
    steps = data.longest
    did = policy(
        z[:-1],
        torch.stack([noise[:steps] for noise, _ in drawn], 1),
        torch.stack([uniform[:steps] for _, uniform in drawn], 1),
    )
    mask = torch.from_numpy(data.mask).T.float().to(z.device)
    returns = torch.zeros_like(mask)
    ahead = value(z).detach()
    for n, (length, over) in enumerate(zip(data.lengths.tolist(), data.terminated, strict=True)):
        goes_on = torch.ones(length, device=z.device)
        goes_on[-1] = 0.0 if over else 1.0
        rewards = torch.from_numpy(data.rewards[n, :length]).to(z.device) / unit
        returns[:length, n] = lambda_returns(
            rewards, goes_on, ahead[: length + 1, n], discount=discount, trace=trace
        )
    return PolicyOutputs(z, did.law, did.score, returns, value(z[:-1]), mask)
