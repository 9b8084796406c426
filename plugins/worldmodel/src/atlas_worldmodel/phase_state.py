"""What passes from one phase of training to the next, and the states that are kept on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.checkpoint import encode_checkpoint, read_checkpoint
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.views import Views
from attrs import frozen

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas_worldmodel.attention import Sizes
from atlas_worldmodel.attention_dynamics import AttentionDynamics
from atlas_worldmodel.critic import CriticSettings, require_meaning
from atlas_worldmodel.joint import AtlasTerms
from atlas_worldmodel.phase_terms import PHASE_TERMS
from atlas_worldmodel.phases import Frames, WorldSchedule, WorldTraining, companions_of
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.trajectory_files import read_trajectories

__all__ = [
    "CHECKPOINT",
    "Parts",
    "Seen",
    "keep",
    "kept_curves",
    "parts_of",
    "restored",
    "seen_trajectories",
    "whitening",
]

CHECKPOINT = "phase.safetensors"
"""A checkpoint of a TopoEncoder, whose tensors below `world.` are the world model's."""
_TRAJECTORIES = ("trajectories.npz", "trajectories.parquet")


@frozen(eq=False)
class Parts:
    """Training and test frames, whitened by the training frames' mean and scatter, as rewards are."""

    train: Frames
    test: Frames


def whitening(known: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scatter of training observations, `[O]` each."""
    return known.observations.mean((0, 1)), np.maximum(known.observations.std((0, 1)), 1e-6)


def parts_of(data: Trajectories) -> Parts:
    """Return training and test frames; the split depends on the trajectories alone.

    Raises:
        BadInput: Trajectories are of unequal length, or there is only one.
    """
    if int(data.lengths.min()) < data.longest:
        raise BadInput(
            f"trajectories of {int(data.lengths.min())} to {data.longest} steps, where one length is needed",
            where=data.environment,
            fix="set `data.steps` to a length that every trajectory reaches",
        )
    known, held = data.split(0.2, RandomStreams(int(data.digest[:15], 16)).generator("split"))
    mean, scatter = whitening(known)
    usual, spread = known.rewards.mean(), max(float(known.rewards.std()), 1e-6)

    def frames(part: Trajectories) -> Frames:
        x = torch.from_numpy((part.observations - mean) / scatter)
        rewards = torch.from_numpy((part.rewards - usual) / np.float32(spread))
        return Frames(x, torch.from_numpy(part.action_features()), rewards)

    return Parts(frames(known), frames(held))


def seen_trajectories(context: StepContext) -> Trajectories:
    """Return the trajectories that the step sees.

    Raises:
        BadInput: It sees none, or several.
    """
    found = [copy for path, copy in context.inputs.items() if path.rsplit("/", 1)[-1] in _TRAJECTORIES]
    if len(found) != 1:
        raise BadInput(
            f"the step sees {len(found)} files of trajectories, expected one",
            where=f"steps.{context.step}.sees",
            fix="add `{from: STEP.raw}` with a step that uses `collect`",
        )
    return read_trajectories(found[0])


@frozen(eq=False)
class Seen:
    """What a phase is given of the one before.

    Attributes:
        tensors: Of the checkpoint.
        architecture: Of the encoder.
        facts: What the checkpoint says of its making.
        data: The trajectories.
        parts: Theirs.
    """

    tensors: Mapping[str, torch.Tensor]
    architecture: Architecture
    facts: Mapping[str, Any]
    data: Trajectories
    parts: Parts

    @classmethod
    def of(cls, context: StepContext, *, phase: int) -> Seen:
        """Open what the step sees.

        Raises:
            BadInput: It does not see trajectories and a step of that phase on them.
        """
        data = seen_trajectories(context)
        found = [copy for path, copy in context.inputs.items() if path.endswith(f"/{CHECKPOINT}")]
        heads = [read_checkpoint(path) for path in found]
        of_phase = [pair for pair in heads if pair[1]["facts"].get("phase") == phase]
        if len(of_phase) != 1:
            raise BadInput(
                f"the step sees {len(of_phase)} checkpoints of phase {phase}, expected one",
                where=f"steps.{context.step}.sees",
                fix=f"add `{{from: STEP.raw}}` with the step of phase {phase}",
            )
        ((tensors, head),) = of_phase
        if head["facts"]["trajectories"] != data.digest:
            raise BadInput(
                f"phase {phase} was trained on other trajectories than the step sees",
                where=f"steps.{context.step}.sees",
                fix="let all phases see the same step's trajectories",
            )
        architecture = Architecture(**head["architecture"])
        return cls(tensors, architecture, head["facts"], data, parts_of(data))

    def model(self, context: StepContext) -> TopoEncoder:
        """Return the encoder as it was."""
        made = TopoEncoder(self.architecture, context.random)
        made.load_state_dict(_below("model.", self.tensors))
        return made.eval()

    def training(
        self, context: StepContext, facts: Mapping[str, Any], *, encoder_rate: float, terms: AtlasTerms
    ) -> WorldTraining:
        """Return a training at its first step, the world model as it was or freshly drawn.

        Raises:
            BadInput: The horizon is longer than the trajectories, or the loss terms do not fit each other.
        """
        params = context.params
        objective = Objective(PHASE_TERMS.values(), params["world_loss"])
        where = f"steps.{context.step}.params.world_loss"
        require_meaning(objective.active, facts["critic"], where)
        if "dynamics-hodge" in objective.active and params["horizon"] < 2:
            raise BadInput(
                "dynamics-hodge has a weight, and a horizon of 1 has no frame with steps on both sides",
                where=where,
                fix="set a horizon of at least 2",
            )
        if facts["critic"] is not None and self.data.terminated.any():
            raise BadInput(
                f"{int(self.data.terminated.sum())} trajectories ended in a state from which nothing "
                "follows, and the critic knows no ends",
                where=where,
                fix="collect in an environment whose episodes are cut by time alone",
            )
        companions = companions_of(self.architecture, int(facts["actions"]), context.random)
        companions.load_state_dict(_below("companions.", self.tensors))
        dynamics = AttentionDynamics(
            self.architecture.charts,
            Sizes(**facts["sizes"]),
            memory=int(facts["memory"]),
            max_radius=self.architecture.max_radius,
            random=context.random,
            critic=None if facts["critic"] is None else CriticSettings(**facts["critic"]),
        )
        world = _below("world.", self.tensors)
        if world:
            dynamics.load_state_dict(world)
        schedule = WorldSchedule(
            steps=params["steps"],
            batch_size=params["batch_size"],
            horizon=params["horizon"],
            learning_rate=params["learning_rate"],
            encoder_rate=encoder_rate,
            jumps=params["jumps"],
            clip=1.0,
        )
        frames = self.parts.train.x.shape[1]
        if dynamics.given + schedule.horizon > frames:
            raise BadInput(
                f"a horizon of {schedule.horizon} after {dynamics.given} given frames does not fit "
                f"trajectories of {frames}",
                where=f"steps.{context.step}.params.horizon",
                fix=f"set a horizon of at most {frames - dynamics.given}",
            )
        return WorldTraining(
            model=self.model(context).train(),
            companions=companions,
            dynamics=dynamics,
            terms=terms,
            frames=self.parts.train,
            schedule=schedule,
            views=Views(noise=0.02),
            random=context.random,
            objective=objective,
        )


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def keep(
    path: Path, tensors: Mapping[str, torch.Tensor], architecture: Architecture, facts: Mapping[str, Any]
) -> None:
    """Put a training's state in place of the one before, whole or not at all."""
    fresh = path.with_suffix(".part")
    fresh.write_bytes(encode_checkpoint(tensors, architecture, facts))
    fresh.replace(path)


def restored(path: Path, restore: Callable[[Mapping[str, torch.Tensor], int], None]) -> int:
    """Bring a training to its kept state and return its step; 0 where there is none."""
    if not path.is_file():
        return 0
    tensors, head = read_checkpoint(path)
    restore(tensors, head["facts"]["step"])
    return int(head["facts"]["step"])


def kept_curves(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the table of curves that were kept with the state."""
    _, head = read_checkpoint(path)
    curves: list[dict[str, Any]] = head["facts"]["curves"]
    return curves
