"""Trajectories in the ball of a trained TopoEncoder, as the learned mechanical world reads them.

Points are the encoder's before it takes their codes: after it they jump where the code changes, which no
force foretells. What is observed of a point is where it lies and how fast it was reached: its normal
coordinates, and their rate of change at the end of the geodesic from the frame before. A prediction so begins
with two frames. A frame that shows a velocity moves at once with an action and stops when the action does,
so that the force of a frame may depend on the action before, too: both are given.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.checkpoint import read_checkpoint, restore_tensors
from atlas_topoencoder.model import TopoEncoder
from attrs import evolve, frozen

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas_worldmodel.observation_chart import Coordinate, ObservationChart, normal_coordinates
from atlas_worldmodel.phase_state import CHECKPOINT, Parts, parts_of, whitening
from atlas_worldmodel.phases import Frames
from atlas_worldmodel.rollouts import arrival
from atlas_worldmodel.spaces import Box
from atlas_worldmodel.trajectories import Trajectories

__all__ = [
    "Encoded",
    "SeenEncoder",
    "ball_chart",
    "ball_coordinates",
    "latent_trajectories",
    "open_encoder",
    "seen_encoder",
]


_CHUNK = 4096
"""Frames encoded together."""


@frozen(eq=False)
class Encoded:
    """Trajectories before and after the encoder.

    Attributes:
        frames: What the encoder read, `[N, T + 1, *shape]`.
        rebuilt: What the encoder itself makes of them by its codes, decoded without texture, likewise.
        points: Before their codes, `[N, T + 1, D]`, in the ball.
        latent: The trajectories there, from the second frame on.
    """

    frames: torch.Tensor
    rebuilt: torch.Tensor
    points: torch.Tensor
    latent: Trajectories


@frozen(eq=False)
class SeenEncoder:
    """A trained encoder with the trajectories that it reads.

    Attributes:
        model: In evaluation mode, constant.
        parts: Training and test frames as it was trained on them: whitened by `phase1`, else divided by a
            number.
        digest: sha256 of its file.
        mean: What is taken from an observation to make it a frame, `[O]` or a number.
        scale: What it is divided by then, likewise.
    """

    model: TopoEncoder
    parts: Parts
    digest: str
    mean: np.ndarray
    scale: np.ndarray

    @torch.no_grad()
    def points(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the points of frames `[N, T, *shape]` before their codes, `[N, T, D]`."""
        found = [self.model.encode(x).v for x in torch.split(frames.flatten(0, 1), _CHUNK)]
        return torch.unflatten(torch.cat(found), 0, frames.shape[:2])

    @torch.no_grad()
    def encode(self, frames: Frames, part: Trajectories) -> Encoded:
        """Return the training or the test trajectories in the ball."""
        points, rebuilt = [], []
        for x in torch.split(frames.x.flatten(0, 1), _CHUNK):
            encoding = self.model.encode(x)
            points.append(encoding.v)
            rebuilt.append(self.model.decode(encoding.z_geo).base)
        size = frames.x.shape[:2]
        whole = torch.unflatten(torch.cat(points), 0, size)
        again = torch.unflatten(torch.cat(rebuilt), 0, size)
        return Encoded(frames.x, again, whole, latent_trajectories(whole, part))


def seen_encoder(context: StepContext, data: Trajectories) -> SeenEncoder:
    """Open the encoder that a step sees, of a step `phase1` or `topoencoder`.

    Raises:
        BadInput: It does not see one, or the encoder does not read such frames; see `open_encoder`.
    """
    where = f"steps.{context.step}.sees"
    found = [copy for path, copy in context.inputs.items() if _is_checkpoint(path.rsplit("/", 1)[-1])]
    if len(found) != 1:
        raise BadInput(
            f"the step sees {len(found)} checkpoints of a TopoEncoder, expected one",
            where=where,
            fix="add `{from: STEP.raw}` with a step that uses `phase1`, or `topoencoder` without repetitions",
        )
    return open_encoder(found[0], data, where=where)


def _is_checkpoint(name: str) -> bool:
    return name == CHECKPOINT or (name.startswith("checkpoint") and name.endswith(".safetensors"))


def open_encoder(path: Path, data: Trajectories, *, where: str) -> SeenEncoder:
    """Open an encoder for the frames of trajectories.

    Args:
        path: Checkpoint of a TopoEncoder.
        data: All trajectories; they are split as `worldmodel` and the phases do.
        where: What messages name as the place.

    Raises:
        BadInput: The file is none, the encoder does not read such frames, or `phase1` trained it on others.
    """
    tensors, head = read_checkpoint(path)
    architecture, facts = Architecture(**head["architecture"]), head["facts"]
    size = math.prod(architecture.shape)
    if size != data.observation_size:
        raise BadInput(
            f"the encoder reads examples of {size} numbers, and observations have {data.observation_size}",
            where=where,
            fix="let the step see an encoder that was trained on such frames",
        )
    if facts.get("trajectories", data.digest) != data.digest:
        raise BadInput(
            "the encoder was trained on other trajectories than the step sees",
            where=where,
            fix="let `phase1` and `worldmodel` see the same step's trajectories",
        )
    model = TopoEncoder(architecture, RandomStreams(0)).requires_grad_(False)
    own = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    restore_tensors(model, own, where=where)
    known, held = data.split(0.2, RandomStreams(int(data.digest[:15], 16)).generator("split"))
    if "divide_by" in facts:
        mean, scale = np.zeros(1, np.float32), np.full(1, facts["divide_by"], np.float32)
        parts = Parts(*(_divided(part, facts["divide_by"], architecture.shape) for part in (known, held)))
    else:
        (mean, scale), parts = whitening(known), parts_of(data)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return SeenEncoder(model.eval(), parts, digest, mean, scale)


def _divided(part: Trajectories, divide_by: float, shape: tuple[int, ...]) -> Frames:
    x = torch.from_numpy(part.observations / np.float32(divide_by))
    return Frames(x.reshape(*x.shape[:2], *shape), torch.from_numpy(part.action_features()))


def latent_trajectories(points: torch.Tensor, part: Trajectories) -> Trajectories:
    """Return trajectories as they are observed in the ball, from their second frame on.

    Args:
        points: `[N, T + 1, D]`.
        part: The trajectories that they are the points of, all of T steps.

    Returns:
        N trajectories of `T - 1` steps: observations `[N, T, 2 D]`, normal coordinates and their rates of
        change; actions `[N, T - 1, 2 F]`, the features of each action and of the one before.
    """
    place, moving = normal_coordinates(arrival(points[:, :-1], points[:, 1:]))
    did = part.action_features()
    width = 2 * did.shape[-1]
    return evolve(
        part,
        observations=torch.cat((place, moving), -1).float().numpy(),
        actions=np.concatenate((did[:, 1:], did[:, :-1]), -1),
        rewards=part.rewards[:, 1:],
        lengths=part.lengths - 1,
        action_space=Box([-1.0] * width, [1.0] * width),
        environment=f"{part.environment}, encoded",
    )


def ball_coordinates(dimension: int) -> tuple[Coordinate, ...]:
    """Return which numbers of a latent observation belong together."""
    return tuple(Coordinate(velocity=dimension + i, position=i) for i in range(dimension))


def ball_chart(latent: Trajectories) -> ObservationChart:
    """Return the chart of latent trajectories that is the ball itself: its units are the ball's, and stay."""
    dimension = latent.observation_size // 2
    chart = ObservationChart(ball_coordinates(dimension), torch.from_numpy(latent.observations))
    chart.center.zero_()
    chart.length.fill_(1.0)
    chart.rate.data.fill_(1.0)
    chart.rate.requires_grad_(False)
    return chart
