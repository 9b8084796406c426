"""Jumps between charts: where they lead, how often they come, and gradients of what they do.

A jump carries a state from one chart to another: its coordinates there, seen from the chart's centre, become
those that the TopoEncoder's jump operator gives in the other chart. All of it is an isometry, so that the
velocity turns with the point and keeps its length.

Jumps come as a Poisson process, `1 - exp(-rate time)` likely in a step. Whether one came is no
differentiable function of the rate; two estimators of the gradient of an expected loss are offered. The
relaxed one blends the two outcomes by a share whose hard version is the exact event: little variance, and
a bias that falls with its temperature. The score one is unbiased and needs several draws of the same state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from atlas_topoencoder.geometry import (
    expmap0,
    gyration,
    logmap0_difference,
    mobius_add,
    pairwise_distance,
)
from torch import nn
from torch.nn import functional

from atlas_worldmodel.attention import CovariantHead, Sizes, Tokens, conformal_factor_about, see
from atlas_worldmodel.splitting import State

if TYPE_CHECKING:
    from atlas_topoencoder.jump import FactorizedJumpOperator

__all__ = [
    "ChartFrames",
    "JumpForecast",
    "JumpHead",
    "blend",
    "carry",
    "event_log_probability",
    "event_share",
    "score_surrogate",
    "translate",
]


class ChartFrames(NamedTuple):
    """What a jump is made of, constant or live.

    Attributes:
        centers: Of the charts, `[N_c, D]`, in the ball.
        anchors: Of the jump operator, `[N_c, D]`, in the ball.
        rotations: Of the jump operator, `[N_c, D, D]`.
    """

    centers: torch.Tensor
    anchors: torch.Tensor
    rotations: torch.Tensor

    @classmethod
    def constant(cls, operator: FactorizedJumpOperator, centers: torch.Tensor) -> ChartFrames:
        """Return the frames without a gradient, as the firewall has dynamics read them."""
        anchors = expmap0(operator.anchors_tangent.detach())
        return cls(centers.detach(), anchors, operator.rotations().detach())


def translate(a: torch.Tensor, state: State) -> State:
    """Return the state after the Möbius translation `z -> a + z`, an isometry.

    Its derivative turns orthonormal components by `gyr[a, z]`.
    """
    return State(mobius_add(a, state.z), gyration(a, state.z, state.w))


def carry(frames: ChartFrames, state: State, source: torch.Tensor, target: torch.Tensor) -> State:
    """Return states jumped from charts `source` to charts `target`, each `[B]` int64.

    A jump from a chart to itself changes nothing, and one back undoes one there.
    """
    seen = translate(-frames.anchors[source], translate(-frames.centers[source], state))
    turn = frames.rotations[target].mT @ frames.rotations[source]
    turned = State(*((turn @ part.unsqueeze(-1)).squeeze(-1) for part in seen))
    return translate(frames.centers[target], translate(frames.anchors[target], turned))


def event_share(rate: torch.Tensor, time: float, uniform: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return how far an event of a Poisson process came within a step, between 0 and 1, `[B]`.

    With `u` uniform, the first event comes at `-log(u) / rate`. The share is the sigmoid of the logarithm of
    `rate time / -log(u)` over the temperature: above 1/2 exactly if the event is within the step, and a step
    function as the temperature falls to 0.

    Args:
        rate: Events a unit of time, `[B]`, positive.
        time: Length of the step.
        uniform: Numbers between 0 and 1, `[B]`.
        temperature: Positive.
    """
    tiny = torch.finfo(rate.dtype).tiny
    waited = -uniform.clamp_min(tiny).log()
    return ((rate.clamp_min(tiny) * time).log() - waited.clamp_min(tiny).log()).div(temperature).sigmoid()


def event_log_probability(rate: torch.Tensor, time: float, happened: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the probability of what happened: an event within the step, or none, `[B]`."""
    mean = rate * time
    return torch.where(happened, (-torch.expm1(-mean)).clamp_min(1e-30).log(), -mean)


def blend(state: State, jumped: State, share: torch.Tensor) -> State:
    """Return the state a share of the way from one to the other, `[B]`: the first at 0, the second at 1.

    The point is on their geodesic; the velocity is the mean of both, each carried there in parallel.
    """
    part = share.unsqueeze(-1)
    z = mobius_add(state.z, expmap0(part * logmap0_difference(state.z, jumped.z)))
    here, there = (gyration(z, -one.z, one.w) for one in (state, jumped))
    return State(z, (1 - part) * here + part * there)


def score_surrogate(losses: torch.Tensor, log_probabilities: torch.Tensor) -> torch.Tensor:
    """Return a scalar whose gradient is unbiased for that of the expected mean loss.

    Each draw's loss weighs the gradient of its log-probability, less the mean loss of the other draws of the
    same state, which depends on nothing that this draw did.

    Args:
        losses: Of K draws of each state, `[B, K]`, K at least 2.
        log_probabilities: Of what happened in each draw, `[B, K]`.
    """
    draws = losses.shape[-1]
    constant = losses.detach()
    others = (constant.sum(-1, keepdim=True) - constant) / (draws - 1)
    return (losses + (constant - others) * log_probabilities).mean()


class JumpForecast(NamedTuple):
    """What a head says of jumps.

    Attributes:
        logits: Of the chart that a jump leads to, `[B, N_c]`.
        rate: Jumps a unit of time, `[B]`, positive.
    """

    logits: torch.Tensor
    rate: torch.Tensor


class JumpHead(nn.Module):
    """Chart logits and a Poisson rate at a state, by covariant attention.

    The logits are the router's scores by distance, `-d(z, c_k) lambda(z) / sqrt(D)`, and what the head adds;
    the head begins at zero, at a rate of about .05.

    Args:
        charts: N_c.
        sizes: Of the head; `site_vectors` 1, the velocity.
    """

    def __init__(self, charts: int, sizes: Sizes) -> None:
        super().__init__()
        self.head = CovariantHead(sizes, vectors=0, scalars=charts + 1)

    def forward(
        self,
        state: State,
        action: torch.Tensor,
        tokens: Tokens,
        centers: torch.Tensor,
        origin: torch.Tensor,
    ) -> JumpForecast:
        """Return the forecast for states `[B, D]` under actions `[B, A]`."""
        z = state.z
        seen = see(z, tokens)
        _, said = self.head(z, origin, state.w.unsqueeze(-2), action, seen, tokens.scalars)
        near = -pairwise_distance(z, centers) * conformal_factor_about(origin, z) / z.shape[-1] ** 0.5
        return JumpForecast(near + said[:, :-1], functional.softplus(said[:, -1] - 3.0))
