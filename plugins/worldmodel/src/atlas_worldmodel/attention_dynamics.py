"""A world model of attention and jumps as the phases train it: its paths, and the losses on them.

Of the seed's seven losses of phase 2, those that an attention's forces have: distance, chart transition,
momentum and jump rate. Energy, Poisson and Hodge terms need a potential.

A penalty on the rate alone is one half of a Poisson process's likelihood, that of steps without an event.
With the other half, events are the steps whose frame a jump brings nearer: without it nothing raises a rate
that has fallen, since the gradient of the distance is as small as the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import distance, pairwise_distance, project
from attrs import frozen
from torch import nn
from torch.nn import functional

from atlas.randomness import RandomStreams
from atlas_worldmodel.attention import Sizes, draw_attention
from atlas_worldmodel.attention_world import ForcesWorld
from atlas_worldmodel.joint import LatentSequence
from atlas_worldmodel.jumps import ChartFrames, JumpHead, blend, carry, event_log_probability, event_share
from atlas_worldmodel.rollouts import opening, remember
from atlas_worldmodel.splitting import State

__all__ = ["LOSS_WEIGHTS", "AttentionDynamics", "Jumping", "Path"]

LOSS_WEIGHTS: Mapping[str, float] = {
    "geodesic": 1.0,
    "chart-transition": 0.1,
    "momentum": 0.001,
    "jump-rate": 0.01,
    "jump-likelihood": 1.0,
}
"""Weights of the losses. Seed 002, section 6, dynamics losses 1, 2, 3 and 5; the likelihood is ours."""


class Path(NamedTuple):
    """What a model predicts of a sequence after the frames that it is given.

    Attributes:
        points: `[B, H, D]`.
        velocities: `[B, H, D]`.
        logits: Of the charts, `[B, H, N_c]`.
        rates: Of jumps, a unit of time, `[B, H]`.
        shares: How far each step's jump came, `[B, H]`; zero without jumps.
        stayed: The points without each step's jump, `[B, H, D]`.
        jumped: The points with all of it, `[B, H, D]`; those without jumps are `stayed`.
    """

    points: torch.Tensor
    velocities: torch.Tensor
    logits: torch.Tensor
    rates: torch.Tensor
    shares: torch.Tensor
    stayed: torch.Tensor
    jumped: torch.Tensor


@frozen
class Jumping:
    """How jumps are made in a path.

    Attributes:
        frames: Where they lead.
        generator: Of the events; None to jump exactly where a jump is likelier than none.
        temperature: Of the relaxed events, while there is a generator.
    """

    frames: ChartFrames
    generator: torch.Generator | None
    temperature: float = 0.3

    def share(self, rate: torch.Tensor) -> torch.Tensor:
        """Return how far a jump comes in a step, `[B]`."""
        if self.generator is None:
            return (rate > -torch.tensor(0.5).log()).to(rate.dtype)
        drawn = torch.rand(rate.shape, generator=self.generator, dtype=rate.dtype, device=rate.device)
        return event_share(rate, 1.0, drawn, self.temperature)


class AttentionDynamics(nn.Module):
    """The explicit integrator with forces from attention, and a head that forecasts charts and jumps.

    Args:
        charts: N_c.
        sizes: Of the heads.
        memory: Points that are remembered, M.
        max_radius: Within which points are kept.
        random: Streams that the initial weights are drawn from.
    """

    def __init__(
        self, charts: int, sizes: Sizes, *, memory: int, max_radius: float, random: RandomStreams
    ) -> None:
        super().__init__()
        self.world = ForcesWorld(charts, sizes, memory=memory, random=random)
        self.jump_head = JumpHead(charts, sizes)
        draw_attention(self.jump_head, random)
        self.memory, self.max_radius = memory, max_radius

    @property
    def given(self) -> int:
        """Frames that a prediction begins with."""
        return self.memory + 2

    def forward(self, sequence: LatentSequence, jumping: Jumping | None) -> Path:
        """Predict the frames after the given ones from those and the actions.

        Args:
            sequence: At least one frame longer than `given`.
            jumping: None for no jumps; logits and rates are forecast either way.
        """
        begin, centers = opening(sequence.points, sequence.actions, self.memory), sequence.centers
        origin, memory = torch.zeros_like(centers[0]), begin.memory
        state = self.world.begin(begin.state, begin.before, memory, centers, origin)
        kept: list[tuple[torch.Tensor, ...]] = []
        for action in begin.ahead.unbind(1):
            after = self.world(state, action, memory, centers, origin)
            memory = remember(memory, state, action)
            state = State(project(after.z, self.max_radius), after.w)
            tokens = self.world.tokens(centers, memory)
            forecast = self.jump_head(state, action, tokens, centers, origin)
            share, stayed, jumped = torch.zeros_like(forecast.rate), state, state
            if jumping is not None:
                share = jumping.share(forecast.rate)
                source = pairwise_distance(state.z, centers).argmin(-1)
                elsewhere = forecast.logits.scatter(1, source.unsqueeze(1), -torch.inf)
                jumped = carry(jumping.frames, state, source, elsewhere.argmax(-1))
                state = blend(state, jumped, share)
            kept.append((*state, *forecast, share, stayed.z, jumped.z))
        return Path(*(torch.stack(part, 1) for part in zip(*kept, strict=True)))

    def losses(self, sequence: LatentSequence, path: Path) -> dict[str, torch.Tensor]:
        """Return each loss of a path, before its weight."""
        return {
            "geodesic": distance(path.points, sequence.targets[:, self.given :]).mean(),
            "chart-transition": functional.cross_entropy(
                path.logits.flatten(0, 1), sequence.charts[:, self.given :].flatten()
            ),
            "momentum": State(path.points, path.velocities).kinetic_energy.mean(),
            "jump-rate": path.rates.mean(),
            "jump-likelihood": self._surprise(sequence, path),
        }

    def _surprise(self, sequence: LatentSequence, path: Path) -> torch.Tensor:
        """Return `-log p` of what each step's jump should have been: an event where it leads nearer."""
        target = sequence.targets[:, self.given :]
        closer = distance(path.jumped, target) < distance(path.stayed, target)
        return -event_log_probability(path.rates, 1.0, closer.detach()).mean()
