"""Loss terms of the policy and its value, summed by a manifest's weights. Seed 002, section 3.

`imagination` and `reinforce` are two estimates of the gradient of the same return: one through the world
model, one by the score of what was drawn. The others hold for both.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from atlas.contracts import LossTerm
from atlas_worldmodel.policy import ForceLaw, zeno_divergence

__all__ = ["POLICY_SLOT", "POLICY_TERMS", "PolicyOutputs"]

POLICY_SLOT = "worldmodel.policy"


class PolicyOutputs(NamedTuple):
    """Paths of H steps, imagined or played, and what policy and value say of them.

    Attributes:
        z: Points, `[H + 1, B, D]`.
        law: Force laws at the first H points.
        scores: Log-densities of what was drawn, `[H, B]`.
        returns: In units of the value, `[H, B]`, with their graph where the paths were imagined.
        values: Of the first H points, taken as constants, `[H, B]`, live in the value's parameters.
        reached: Probability that the path is still going on at each step, `[H, B]`, a constant.
    """

    z: torch.Tensor
    law: ForceLaw
    scores: torch.Tensor
    returns: torch.Tensor
    values: torch.Tensor
    reached: torch.Tensor


def imagination(outputs: PolicyOutputs) -> torch.Tensor:
    """Return minus the mean return from the first points, differentiable along the whole path."""
    return -outputs.returns[0].mean()


def reinforce(outputs: PolicyOutputs) -> torch.Tensor:
    """Return the mean of minus score times advantage, whose gradient is that of minus the return."""
    advantage = (outputs.returns - outputs.values).detach()
    return -_mean(outputs.scores * advantage, outputs.reached)


def entropy(outputs: PolicyOutputs) -> torch.Tensor:
    """Return minus the mean entropy of the force laws."""
    return -_mean(outputs.law.entropy, outputs.reached)


def zeno(outputs: PolicyOutputs) -> torch.Tensor:
    """Return the mean divergence of each force law from the one before, carried to its point."""
    mean, width = outputs.law
    steps = len(mean)
    now, before = ForceLaw(mean[1:], width[1:]), ForceLaw(mean[:-1], width[:-1])
    apart = zeno_divergence(now, outputs.z[1:steps], before, outputs.z[: steps - 1])
    return _mean(apart, outputs.reached[1:])


def baseline(outputs: PolicyOutputs) -> torch.Tensor:
    """Return half the mean squared error of the value against returns taken as constants."""
    return _mean((outputs.values - outputs.returns.detach()).square(), outputs.reached) / 2


def _mean(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (x * weight).sum() / weight.sum()


_SOURCE = "seed 002, section 3"

POLICY_TERMS = {
    term.name: term
    for term in (
        LossTerm(
            "policy-imagination",
            POLICY_SLOT,
            imagination,
            1.0,
            "policy",
            "-mean R_0, with its gradient through the world model",
            f"{_SOURCE}, task loss; issue 6, item 8",
        ),
        LossTerm(
            "policy-reinforce",
            POLICY_SLOT,
            reinforce,
            1.0,
            "policy",
            "-mean (R_t - V(z_t)) log pi(u_t | z_t)",
            f"{_SOURCE}, task loss; Williams 1992",
        ),
        LossTerm(
            "policy-entropy",
            POLICY_SLOT,
            entropy,
            1e-3,
            "policy",
            "-mean H(pi(. | z_t))",
            f"{_SOURCE}, entropy bonus",
        ),
        LossTerm(
            "policy-zeno",
            POLICY_SLOT,
            zeno,
            1e-4,
            "policy",
            "mean KL(pi_t || P pi_(t-1)), P parallel transport",
            f"{_SOURCE}, Zeno penalty",
        ),
        LossTerm(
            "policy-baseline",
            POLICY_SLOT,
            baseline,
            1.0,
            "value",
            "mean (V(z_t) - R_t)^2 / 2",
            f"{_SOURCE}; section 2, TD residual",
        ),
    )
}
"""By name; `policy-imagination` and `policy-reinforce` are alternatives."""
