"""The three phases of training: the atlas alone, a world model on its frozen points, and both together.

Phase 1 is a TopoEncoder's own training, on frames that know the frame after them. Phases 2 and 3 are steps of
one loop: in the second the encoder is constant and its points are computed once; in the third every step
encodes anew and differentiates once, on the graphs of the firewall. Every draw is keyed by purpose and step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.batches import BatchOrder
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.data import Dataset
from atlas_topoencoder.devices import PLAIN
from atlas_topoencoder.geometry import expmap0
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.outputs import ModelOutputs
from atlas_topoencoder.training import Schedule, Training
from atlas_topoencoder.views import Views
from attrs import define, field, frozen

from atlas.errors import InstrumentFailed
from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas_worldmodel.attention_dynamics import AttentionDynamics, Jumping
from atlas_worldmodel.firewall import BASE, DYNAMICS, REGULARISER, Cell, audit, divide, parameter_groups
from atlas_worldmodel.joint import AtlasTerms, LatentSequence, Viewing, joint_losses, latent_sequence
from atlas_worldmodel.jumps import ChartFrames
from atlas_worldmodel.phase_terms import PHASE_SLOT, PHASE_TERMS, PhaseOutputs

__all__ = [
    "ALPHA",
    "Frames",
    "PairTraining",
    "WorldSchedule",
    "WorldTraining",
    "atlas_training",
    "companions_of",
    "encode_all",
]

ALPHA: Mapping[str, float] = {BASE: 0.1, REGULARISER: 0.1, DYNAMICS: 1.0}
"""Weights of the losses of phase 3. Source: seed 002, section 6.1."""

_CHUNK = 4096
"""Frames encoded together where no gradient is wanted."""


class Frames(NamedTuple):
    """Trajectories of one length.

    Attributes:
        x: Observations, `[N, T, O]`.
        actions: As a model reads them, `[N, T - 1, A]`; action t leads from frame t to frame t + 1.
        rewards: `[N, T - 1]`, whitened; None where they are not known.
    """

    x: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor | None = None


@define(eq=False, kw_only=True)
class PairTraining(Training):
    """A training of the atlas whose examples know the example after them, for slowness and enclosure.

    Attributes:
        following: Row of the frame after each row of the data set, `[N]`; rows that are trained on have one.
        actions: What was done in between, `[N, A]`.
    """

    following: np.ndarray
    actions: np.ndarray

    def outputs(self) -> ModelOutputs:
        """Return what the loss terms read in the next step, with its graph."""
        outputs = super().outputs()
        if self.warming_up or not {"slowness", "enclosure"} & set(self.now.active):
            return outputs
        rows = self.order.rows_of(self.step)
        later = torch.from_numpy(self.dataset.take(self.following[rows])).to(outputs.x.device)
        done = torch.from_numpy(self.actions[rows]).to(outputs.x.device)
        return outputs._replace(next=self.model.encode(later), actions=done)


def companions_of(architecture: Architecture, actions: int, random: RandomStreams) -> Companions:
    """Return the parameters of the atlas's terms, for actions of so many numbers."""
    return Companions(
        charts=architecture.charts, latent=architecture.latent, classes=0, actions=actions, streams=random
    )


def atlas_training(
    params: Mapping[str, Any], known: Frames, random: RandomStreams, objective: Objective
) -> PairTraining:
    """Return phase 1 at its first step.

    Args:
        params: `model`, the sizes, and `schedule`.
        known: Training frames.
        random: Of this training.
        objective: Terms and weights.
    """
    count, length, features = known.x.shape
    architecture = Architecture(shape=[features], **params["model"])
    number = np.arange(count * length).reshape(count, length)
    actions = torch.cat((known.actions, torch.zeros_like(known.actions[:, :1])), 1)
    width = actions.shape[-1]
    following = number.copy()
    following[:, :-1] += 1
    return PairTraining(
        model=TopoEncoder(architecture, random),
        companions=companions_of(architecture, width, random),
        objective=objective,
        schedule=Schedule(**params["schedule"]),
        dataset=Dataset(known.x.flatten(0, 1).numpy(), 1.0, None, (), "frames of the trajectories"),
        order=BatchOrder(number[:, :-1].flatten(), params["schedule"]["batch_size"], random),
        views=Views(noise=0.02),
        random=random,
        device=PLAIN,
        following=following.flatten(),
        actions=actions.flatten(0, 1).numpy(),
    )


@frozen
class WorldSchedule:
    """How long and how fast phases 2 and 3 train.

    Attributes:
        steps: Of the optimiser.
        batch_size: Sequences of a step.
        horizon: Frames that are predicted of each.
        learning_rate: Of the world model.
        encoder_rate: Of encoder, decoder and jump operator; 0 freezes them, which is phase 2.
        jumps: Whether a path jumps between charts.
        clip: Greatest norm of the gradient.
    """

    steps: int
    batch_size: int
    horizon: int
    learning_rate: float
    encoder_rate: float
    jumps: bool
    clip: float

    @property
    def joint(self) -> bool:
        """Whether the encoder is trained too."""
        return self.encoder_rate > 0


@torch.no_grad()
def encode_all(model: TopoEncoder, frames: Frames) -> LatentSequence:
    """Return all trajectories in latent space, as constants."""
    parts = []
    for rows in torch.split(torch.arange(len(frames.x)), max(1, _CHUNK // frames.x.shape[1])):
        encoding = model.encode(frames.x[rows].flatten(0, 1))
        graphs = divide(model, encoding)
        parts.append(latent_sequence(graphs, frames.actions[rows], live=False, encoding=encoding))
    points, targets, weights, charts, _, actions = (
        torch.cat(part) for part in zip(*(one[:6] for one in parts), strict=True)
    )
    return LatentSequence(points, targets, weights, charts, parts[0].centers, actions, frames.rewards)


@define(eq=False)
class WorldTraining:
    """Phase 2 or 3: models, data, and where they are in their schedule.

    Attributes:
        model: The encoder, frozen where the schedule says so.
        companions: Parameters of the atlas's terms.
        dynamics: The world model.
        terms: Of the atlas, which the joint phase trains.
        objective: Of the world model and its critic.
        frames: Training trajectories.
        schedule: Of the steps.
        views: For terms that compare views.
        random: Of this training.
        step: Steps done.
    """

    model: TopoEncoder
    companions: Companions
    dynamics: AttentionDynamics
    terms: AtlasTerms
    frames: Frames
    schedule: WorldSchedule
    views: Views
    random: RandomStreams
    objective: Objective = field(factory=lambda: Objective(PHASE_TERMS.values()))
    step: int = 0
    optimizer: torch.optim.Optimizer = field(init=False)
    _latents: LatentSequence | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Make the optimiser; in phase 2, encode all frames once."""
        groups = [{"params": list(self.dynamics.parameters()), "lr": self.schedule.learning_rate}]
        if self.schedule.joint:
            encoder = [*self.model.parameters(), *self.companions.parameters()]
            groups.append({"params": encoder, "lr": self.schedule.encoder_rate})
        else:
            self._latents = encode_all(self.model, self.frames)
        self.optimizer = torch.optim.Adam(groups)

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _window(self) -> tuple[np.ndarray, np.ndarray]:
        """Return trajectory `[B, 1]` and frames `[B, T]` of the next step's sequences."""
        length = self.dynamics.given + self.schedule.horizon
        draw = self.random.generator("window", self.step)
        count, frames = self.frames.x.shape[:2]
        rows = draw.integers(0, count, self.schedule.batch_size)
        starts = draw.integers(0, frames - length + 1, self.schedule.batch_size)
        return rows[:, None], starts[:, None] + np.arange(length)

    def jumping(self) -> Jumping | None:
        """Return how the next step's paths jump."""
        if not self.schedule.jumps:
            return None
        seed = int(self.random.generator("jumps", self.step).integers(2**62))
        frames = ChartFrames.constant(self.model.jump, expmap0(self.model.router.centers_tangent))
        return Jumping(frames, torch.Generator().manual_seed(seed))

    def losses(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return the loss of each column of the firewall, and the world model's terms, unweighted."""
        own: dict[str, torch.Tensor] = {}
        jumping = self.jumping()

        rows, frames = self._window()
        actions = self.frames.actions[rows, frames[:, :-1]]
        rewards = None if self.frames.rewards is None else self.frames.rewards[rows, frames[:, :-1]]

        def dynamics(sequence: LatentSequence) -> torch.Tensor:
            sequence = sequence._replace(rewards=rewards)
            outputs = PhaseOutputs(self.dynamics, sequence, self.dynamics(sequence, jumping))
            found = self.objective({PHASE_SLOT: outputs})
            own.update(found.terms)
            return found.total

        if self._latents is not None:
            at = self._latents
            points, targets, weights, charts = (part[rows, frames] for part in at[:4])
            cut = LatentSequence(points, targets, weights, charts, at.centers, actions)
            return {DYNAMICS: dynamics(cut)}, own
        viewing = Viewing(self.views, self.random.generator("view", self.step))
        found = joint_losses(
            self.model,
            self.terms,
            dynamics,
            self.frames.x[rows, frames],
            actions,
            companions=self.companions,
            viewing=viewing,
        )
        return found, own

    def advance(self) -> dict[str, float]:
        """Take one step; return the losses before it.

        Raises:
            InstrumentFailed: One is not finite; the parameters are as they were.
        """
        losses, own = self.losses()
        figures = {name: float(loss.detach()) for name, loss in {**losses, **own}.items()}
        bad = [name for name, figure in figures.items() if not math.isfinite(figure)]
        if bad:
            raise InstrumentFailed(
                f"the loss {bad[-1]} is {figures[bad[-1]]} at step {self.step}",
                where=f"loss.{bad[-1]}",
                fix="lower the learning rate or the horizon; the last state that was kept is whole",
            )
        total = torch.stack([ALPHA[name] * loss for name, loss in losses.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call] # torch's own
        torch.nn.utils.clip_grad_norm_(self._parameters(), self.schedule.clip)
        self.optimizer.step()
        if self.schedule.joint:
            self.model.refresh()
        self.step += 1
        return figures

    def audit(self) -> list[Cell]:
        """Return the firewall's audit on the next step's batch; it changes nothing."""
        losses, _ = self.losses()
        return audit(losses, parameter_groups(self.model, self.dynamics))

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return what a checkpoint holds, by the prefix of its tensors."""
        return {"model": self.model, "companions": self.companions, "world": self.dynamics}

    def state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that the next step depends on, by name."""
        tensors = {
            f"{prefix}.{name}": value
            for prefix, module in self.modules().items()
            for name, value in module.state_dict().items()
        }
        for number, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{number}.{name}"] = value
        return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor], step: int) -> None:
        """Go on from what `state` returned after so many steps."""
        for prefix, module in self.modules().items():
            module.load_state_dict(_below(prefix, tensors))
        for number, parameter in enumerate(self._parameters()):
            kept = _below(f"optimizer.{number}", tensors)
            if kept:
                self.optimizer.state[parameter] = {name: value.clone() for name, value in kept.items()}
        self.step = step


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(f"{prefix}."): t for n, t in tensors.items() if n.startswith(f"{prefix}.")}
