"""A world model of attention and jumps as the phases train it: its paths, and a critic beside it.

The losses on its paths are in `phase_terms`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import pairwise_distance, project
from attrs import frozen
from torch import nn

from atlas.randomness import RandomStreams
from atlas_worldmodel.attention import Sizes, draw_attention
from atlas_worldmodel.attention_world import ForcesWorld
from atlas_worldmodel.critic import Critic, CriticSettings
from atlas_worldmodel.joint import LatentSequence
from atlas_worldmodel.jumps import ChartFrames, JumpHead, blend, carry, event_share
from atlas_worldmodel.rollouts import opening, remember
from atlas_worldmodel.splitting import State

__all__ = ["AttentionDynamics", "Jumping", "Path"]


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
        energies: Before the first step and after each, `[B, H + 1]`.
        exchange: Work and heat since the beginning, `[B, H]`.
    """

    points: torch.Tensor
    velocities: torch.Tensor
    logits: torch.Tensor
    rates: torch.Tensor
    shares: torch.Tensor
    stayed: torch.Tensor
    jumped: torch.Tensor
    energies: torch.Tensor
    exchange: torch.Tensor


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
        critic: Of a critic beside it, whose potential may push; None for none.
    """

    def __init__(
        self,
        charts: int,
        sizes: Sizes,
        *,
        memory: int,
        max_radius: float,
        random: RandomStreams,
        critic: CriticSettings | None = None,
    ) -> None:
        super().__init__()
        self.critic = (
            None if critic is None else Critic(sizes.latent, critic, max_radius=max_radius, random=random)
        )
        potential = None if self.critic is None or critic is None or not critic.force else self.critic.energy
        self.world = ForcesWorld(charts, sizes, memory=memory, random=random, potential=potential)
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
        energies, exchange = [self.world.energy(state)], [torch.zeros_like(state.kinetic_energy)]
        for action in begin.ahead.unbind(1):
            after, work, heat = self.world.advance(state, action, memory, centers, origin)
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
            energies.append(self.world.energy(state))
            exchange.append(exchange[-1] + work + heat)
        parts = (torch.stack(part, 1) for part in zip(*kept, strict=True))
        return Path(*(*parts, torch.stack(energies, 1), torch.stack(exchange[1:], 1)))
