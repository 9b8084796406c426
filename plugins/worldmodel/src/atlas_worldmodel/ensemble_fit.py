"""The fit of an agent's own world models to all that it saw, in each round anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from atlas_topoencoder.devices import Device, moved
from atlas_topoencoder.graphed_step import GraphedStep, set_rate

from atlas.randomness import RandomStreams
from atlas_worldmodel.agent_settings import AgentSettings
from atlas_worldmodel.descent import descend, finite, groups_of
from atlas_worldmodel.ensemble import Ensemble, Transitions

__all__ = ["EnsembleFit"]


class EnsembleFit:
    """World models with their optimiser.

    Args:
        world: The models.
        settings: How they learn.
        random: Of the draws.
    """

    def __init__(
        self, world: Ensemble, settings: AgentSettings, random: RandomStreams, device: Device
    ) -> None:
        self.world, self.settings, self.random, self.device = world, settings, random, device
        groups = groups_of([world], settings.fit_rate, device)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, capturable=device.graphs)
        self._loss = torch.compile(world.loss) if device.compiles else world.loss
        self._graphed = GraphedStep(self._descend)

    def advance(self, data: Transitions, done: int, progress: Callable[..., None]) -> float:
        """Fit in the round after so many, and return the mean loss of its last tenth.

        Raises:
            InstrumentFailed: The loss is not finite.
        """
        s = self.settings
        self.world.normalise(data)
        count, total = len(data.reward), torch.zeros((), dtype=torch.float64, device=self.device.device)
        step_of = self._graphed if self.device.graphs else self._descend
        generator = self.random.generator("fit", done)
        for step in range(s.fit_steps):
            rows = torch.from_numpy(generator.integers(count, size=(s.members, s.fit_batch)))
            rows = moved(rows, self.device.device)
            share = (1 + math.cos(math.pi * step / s.fit_steps)) / 2
            for group in self.optimizer.param_groups:
                set_rate(group, s.fit_rate * (0.1 + 0.9 * share))
            loss = step_of(*(part[rows] for part in data))
            if step >= 0.9 * s.fit_steps:
                total += loss
            if step % 200 == 0:
                progress("fitting the world", done=step, total=s.fit_steps, loss=float(loss))
        return finite("world", float(total) / (s.fit_steps - math.ceil(0.9 * s.fit_steps)), done)

    def forget(self) -> None:
        """Record the step anew: the optimiser's state is another."""
        self._graphed.forget()

    def _descend(self, *data: torch.Tensor) -> torch.Tensor:
        """Change the models by their loss on transitions, and return it."""
        loss = self._loss(Transitions(*data))
        descend(self.optimizer, loss, clip=self.settings.clip)
        return loss.detach()
