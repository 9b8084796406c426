"""Training of the learned world: windows of trajectories, paths, and the terms of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from atlas_topoencoder.devices import PLAIN, Device, moved
from atlas_topoencoder.graphed_step import GraphedStep, set_rate
from attrs import frozen
from torch import nn

from atlas.errors import BadInput, InstrumentFailed
from atlas.objective import Objective, ObjectiveValue
from atlas.randomness import RandomStreams
from atlas_worldmodel.descent import optimizer_tensors, restore_optimizer, under
from atlas_worldmodel.encoded_world import EncodedWorld
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.observation_chart import Coordinate, ObservationChart
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_terms import WORLD_SLOT, WorldOutputs

__all__ = ["Schedule", "WorldFit", "fitted_model", "model_on"]


@frozen
class Schedule:
    """How long and how fast is trained.

    Attributes:
        steps: Of the optimiser.
        batch_size: Windows of a step.
        horizon: Actions of a window.
        learning_rate: Of the networks, the largest of one cycle.
        clip: Greatest norm of the gradient.
        grow: Share of the steps over which windows grow from one action to the horizon; 0 begins with it.
    """

    steps: int = 4000
    batch_size: int = 256
    horizon: int = 4
    learning_rate: float = 1e-3
    clip: float = 10.0
    grow: float = 0.0

    def horizon_at(self, step: int) -> int:
        """Return the actions of the windows after so many steps."""
        grown = self.grow * self.steps
        return self.horizon if step >= grown else min(self.horizon, 1 + int(self.horizon * step / grown))


def fitted_model(
    coordinates: Sequence[Coordinate],
    data: Trajectories,
    sizes: FieldSizes,
    *,
    bound_speed: bool,
    random: RandomStreams,
    masses: bool = False,
) -> WorldModel:
    """Return a model before training, with the units of the data.

    Args:
        coordinates: Of the observations.
        data: What it will be trained on.
        sizes: Widths of the heads.
        bound_speed: Whether velocities end at the greatest of the data.
        random: Of the weights.
        masses: Whether each axis has a mass, the metric of the potential's slopes.

    Raises:
        BadInput: The trajectories are of unequal lengths.
    """
    return model_on(
        ObservationChart(coordinates, torch.from_numpy(data.observations)),
        data,
        sizes,
        bound_speed=bound_speed,
        random=random,
        masses=masses,
    )


def model_on(
    chart: ObservationChart,
    data: Trajectories,
    sizes: FieldSizes,
    *,
    bound_speed: bool,
    stream: int = 0,
    random: RandomStreams,
    masses: bool = False,
) -> WorldModel:
    """Return a model before training on a chart of the data.

    Args:
        chart: Of the observations.
        data: What it will be trained on.
        sizes: Widths of the heads.
        bound_speed: Whether velocities end at the greatest of the data; in a medium none does.
        stream: Width of the network of a medium that carries points along; 0 for none.
        random: Of the weights.
        masses: Whether each axis has a mass; not in a medium.

    Raises:
        BadInput: The trajectories are of unequal lengths, or a medium and masses are asked for.
    """
    if int(data.lengths.min()) < data.longest:
        raise BadInput(
            f"trajectories of {int(data.lengths.min())} to {data.longest} steps, where one length is needed",
            where=data.environment,
            fix="collect with `steps` set to a length that every trajectory reaches",
        )
    seen = torch.from_numpy(data.observations)
    with torch.no_grad():
        measured = chart.state(seen)
    columns = [one.velocity for one in chart.coordinates]
    actions, unit = data.action_features().shape[-1], max(float(measured.w.diff(dim=1).std()), 1e-6)
    if stream and masses:
        raise BadInput(
            "the axes of a world with a medium have no masses",
            where="model.mass",
            fix="set `mass: none`, or `stream: 0`",
        )
    if stream:
        model: WorldModel = EncodedWorld(chart, actions, sizes, stream=stream, unit=unit, random=random)
    else:
        speed = seen[..., columns].abs().amax((0, 1)) if bound_speed else None
        model = WorldModel(chart, actions, sizes, speed=speed, unit=unit, random=random, masses=masses)
    model.velocity_scale.copy_(measured.w.std((0, 1)).clamp_min(1e-6))
    rewards = torch.from_numpy(data.rewards)
    model.reward_mean.copy_(rewards.mean())
    model.reward_scale.copy_(rewards.std().clamp_min(1e-6))
    return model


class WorldFit:
    """A training that goes on step by step and can be put back to any.

    Args:
        model: What is trained.
        data: On what.
        objective: Sum of the loss terms.
        schedule: How long.
        random: Of the draws of windows.
        device: Where it computes; the CPU by default.
    """

    def __init__(
        self,
        model: WorldModel,
        data: Trajectories,
        objective: Objective,
        schedule: Schedule,
        random: RandomStreams,
        device: Device = PLAIN,
    ) -> None:
        self.model, self.objective, self.schedule, self.random = model, objective, schedule, random
        self.windows = data.windows(schedule.horizon)
        self.device = device
        model.to(device.device)
        self.seen, self.actions, self.rewards = (
            torch.from_numpy(part).to(device.device)
            for part in (data.observations, data.action_features(), data.rewards)
        )
        flat = self.seen.flatten(0, 1)
        step = self.seen.diff(dim=1).flatten(0, 1)
        self.scale = step.std(0).clamp_min(1e-3 * flat.std(0)).clamp_min(1e-6)
        layers = {id(p) for part in model.modules() if isinstance(part, nn.Linear) for p in part.parameters()}
        few = [p for p in model.parameters() if p.numel() <= model.chart.dimension and id(p) not in layers]
        few += [model.chart.rate]
        few = list({id(p): p for p in few}.values())
        chosen = {id(p) for p in few}
        many = [p for p in model.parameters() if id(p) not in chosen]
        self.optimizer = torch.optim.Adam(
            [
                {"params": many, "lr": device.rate(schedule.learning_rate)},
                {"params": few, "lr": device.rate(_FEW * schedule.learning_rate)},
            ],
            capturable=device.graphs,
        )
        self.metric = torch.ones(model.chart.dimension, device=device.device)
        self.step = 0
        self._value = torch.compile(self._objective_of) if device.compiles else self._objective_of
        self._graphed = GraphedStep(self._descend)
        self._ahead: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def advance(self) -> Mapping[str, float]:
        """Take one step and return each term before its weight.

        Raises:
            InstrumentFailed: A term or a velocity is not finite; names the step and the term.
        """
        rate = _one_cycle(self.step / self.schedule.steps)
        for group, factor in zip(self.optimizer.param_groups, (1.0, _FEW), strict=True):
            set_rate(group, factor * rate * self.schedule.learning_rate)
        windows = self._drawn(self.step) if self._ahead is None else self._ahead
        terms = (self._graphed if self.device.graphs else self._descend)(*windows)
        if self.device.graphs:
            self._ahead = self._drawn(self.step + 1)  # while the device computes
        figures = dict(zip(self.objective.active, terms.tolist(), strict=True))
        for name, figure in figures.items():
            if not np.isfinite(figure):
                raise InstrumentFailed(
                    f"the loss term {name} is {figure} at step {self.step}: momentum grew without end "
                    "or a point reached the ball's edge",
                    fix="lower `schedule.learning_rate` or `schedule.horizon`; the last kept state is whole",
                )
        self.step += 1
        return figures

    def _drawn(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the observations, actions and rewards of the windows after so many steps."""
        draws = self.random.generator("windows", step)
        picked = self.windows[draws.integers(len(self.windows), size=self.schedule.batch_size)]
        rows, starts = torch.from_numpy(picked[:, 0]), torch.from_numpy(picked[:, 1])
        ahead = starts[:, None] + torch.arange(self.schedule.horizon_at(step))
        rows, ahead = moved(rows[:, None], self.device.device), moved(ahead, self.device.device)
        at = torch.cat((ahead[:, :1], ahead + 1), 1)
        return self.seen[rows, at], self.actions[rows, ahead], self.rewards[rows, ahead]

    def _objective_of(
        self, seen: torch.Tensor, actions: torch.Tensor, rewards: torch.Tensor
    ) -> ObjectiveValue:
        """Return the loss of windows, and let the metric follow; masses are that of the step before."""
        self.model.weigh(self.metric)
        path = self.model(seen[:, 0], actions)
        with torch.no_grad():
            slope = path.pull[:, 0].square().mean(0)
            if self.model.mass is not None:
                slope = slope * self.model.mass
            self.metric.lerp_(slope / self.model.fields.unit**2, 0.01)
        outputs = WorldOutputs(
            path=path,
            target=self.model.chart.beside(self.model.chart.state(seen[:, 1:]).z, path.states.z).detach(),
            observations=seen[:, 1:],
            rewards=rewards,
            scale=self.scale,
            reward_scale=self.model.reward_scale,
            metric=self.metric / self.metric.mean(),
            spread=self.model.spread,
            unit=self.model.fields.unit,
        )
        return self.objective({WORLD_SLOT: outputs})

    def _descend(self, *windows: torch.Tensor) -> torch.Tensor:
        """Change the parameters by the gradient on windows, and return the terms before their weights."""
        value = self._value(*windows)
        self.optimizer.zero_grad(set_to_none=True)
        value.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip)
        self.optimizer.step()
        return torch.stack([part.detach() for part in value.terms.values()])

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that the next step depends on."""
        found = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        found["metric"] = self.metric
        found |= {f"optimizer.{n}": t for n, t in optimizer_tensors(self.optimizer).items()}
        return {name: tensor.cpu().clone().contiguous() for name, tensor in found.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor], step: int) -> None:
        """Go back to a state of `state` after that many steps."""
        self.model.load_state_dict(under(tensors, "model."))
        restore_optimizer(self.optimizer, under(tensors, "optimizer."))
        self.metric = tensors["metric"].to(self.device.device, copy=True)
        self.step = step
        self._graphed.forget()
        self._ahead = None


_FEW = 10.0
"""Rate of the parameters that are single numbers with a meaning, such as `lag`, beside the networks'."""


def _one_cycle(share: float) -> float:
    """Return the rate: up along a line in the first twentieth, then down along a cosine."""
    if share < 0.05:
        return 0.04 + 0.96 * share / 0.05
    return 0.5 * (1 + float(np.cos(np.pi * (share - 0.05) / 0.95)))
