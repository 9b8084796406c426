"""The fit of an agent's own world models to all that it saw, in each round anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from atlas.randomness import RandomStreams
from atlas_worldmodel.agent_settings import AgentSettings
from atlas_worldmodel.descent import descend, finite
from atlas_worldmodel.ensemble import Ensemble, Transitions

__all__ = ["EnsembleFit"]


class EnsembleFit:
    """World models with their optimiser.

    Args:
        world: The models.
        settings: How they learn.
        random: Of the draws.
    """

    def __init__(self, world: Ensemble, settings: AgentSettings, random: RandomStreams) -> None:
        self.world, self.settings, self.random = world, settings, random
        self.optimizer = torch.optim.AdamW(world.parameters(), settings.fit_rate, weight_decay=1e-4)

    def advance(self, data: Transitions, done: int, progress: Callable[..., None]) -> float:
        """Fit in the round after so many, and return the mean loss of its last tenth.

        Raises:
            InstrumentFailed: The loss is not finite.
        """
        s = self.settings
        self.world.normalise(data)
        count, total = len(data.reward), 0.0
        generator = self.random.generator("fit", done)
        for step in range(s.fit_steps):
            rows = torch.from_numpy(generator.integers(count, size=(s.members, s.fit_batch)))
            loss = self.world.loss(Transitions(*(part[rows] for part in data)))
            share = (1 + math.cos(math.pi * step / s.fit_steps)) / 2
            descend(self.optimizer, loss, rate=s.fit_rate * (0.1 + 0.9 * share), clip=s.clip)
            if step >= 0.9 * s.fit_steps:
                total += float(loss.detach())
            if step % 200 == 0:
                progress("fitting the world", done=step, total=s.fit_steps, loss=float(loss.detach()))
        return finite("world", total / (s.fit_steps - math.ceil(0.9 * s.fit_steps)), done)
