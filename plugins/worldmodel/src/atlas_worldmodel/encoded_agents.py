"""Agents in the ball of a trained encoder: what they see of frames, and the encoded world that they imagine.

An agent sees of a frame where it lies, how it was reached from the frame before, and what was done in
between: what the encoded world reads of a moment. Of the first frame it sees no motion and no action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from atlas_topoencoder.model import TopoEncoder
from attrs import define, evolve, field

from atlas_worldmodel.encoded_trajectories import SeenEncoder, latent_trajectories
from atlas_worldmodel.environments import AroundEnvironment, Outcome
from atlas_worldmodel.imagination import WorldStep
from atlas_worldmodel.mechanical_world import MechanicalWorld, Moment
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.observation_chart import normal_coordinates
from atlas_worldmodel.rollouts import arrival
from atlas_worldmodel.spaces import ActionSpace
from atlas_worldmodel.trajectories import Trajectories

__all__ = ["EncodedEnvironment", "EncodedMechanicalWorld", "EncodedSight", "seen_latents"]


@define(eq=False)
class EncodedSight:
    """What an agent sees of an episode's frames, one after the other.

    Attributes:
        encoder: In evaluation mode.
        mean: What is taken from an observation, `[O]` float32.
        scale: What it is divided by then, likewise.
        space: Of the actions.
    """

    encoder: TopoEncoder
    mean: np.ndarray
    scale: np.ndarray
    space: ActionSpace
    _point: torch.Tensor | None = field(default=None, init=False)
    _action: np.ndarray | None = field(default=None, init=False)

    @property
    def size(self) -> int:
        """Numbers that are seen: place and motion, `2 D`, and features of the action before, F."""
        return 2 * self.encoder.architecture.latent + self.space.features

    @torch.no_grad()
    def see(self, observation: np.ndarray, *, first: bool) -> np.ndarray:
        """Return what is seen of an observation `[O]`, `[2 D + F]` float32.

        Args:
            observation: As the environment gives it.
            first: Whether an episode begins with it.
        """
        frame = torch.from_numpy(((observation - self.mean) / self.scale).astype(np.float32))
        point = self.encoder.encode(frame.reshape(1, *self.encoder.architecture.shape)).v
        before = point if first or self._point is None else self._point
        place, moving = normal_coordinates(arrival(before, point))
        self._point = point
        done = np.zeros(self.space.features, np.float32)
        if not first and self._action is not None:
            done = self.space.encode(np.atleast_1d(self._action))
        return np.concatenate((place[0].numpy(), moving[0].numpy(), done)).astype(np.float32)

    def did(self, action: np.ndarray) -> None:
        """Take the action `[A]` that leads to the next frame."""
        self._action = action


@define(eq=False)
class EncodedEnvironment(AroundEnvironment):
    """An environment seen through an encoder.

    Attributes:
        sight: Of its frames.
    """

    sight: EncodedSight

    def __attrs_post_init__(self) -> None:
        """Take over what the environment says of itself, but for what is seen of it."""
        super().__attrs_post_init__()
        self.observation_size = self.sight.size

    def reset(self, seed: int, state: Sequence[float] | None = None) -> np.ndarray:
        """Begin anew and return what is seen; see `Environment.reset`."""
        return self.sight.see(super().reset(seed, state), first=True)

    def step(self, action: np.ndarray) -> Outcome:
        """Act and see; see `Environment.step`."""
        outcome = super().step(action)
        self.sight.did(action)
        return evolve(outcome, observation=self.sight.see(outcome.observation, first=False))


class EncodedMechanicalWorld(MechanicalWorld):
    """A `WorldModel` of latent trajectories between actions, which remembers the action before.

    Args:
        model: Trained; it becomes constant.
        facts: That rebuild the model, from its file.
        features: Of an action, F.
    """

    def __init__(self, model: WorldModel, facts: Mapping[str, Any], features: int) -> None:
        super().__init__(model, facts)
        size = 2 * model.chart.dimension + features
        self._seen = size - features
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def begin(self, observation: torch.Tensor) -> Moment:
        """Return the moments in which `[B, 2 D + F]` are seen."""
        state = self.model.begin(observation[:, : self._seen])
        return Moment(state, self.model.act(state.z), observation)

    def step(self, state: Moment, action: torch.Tensor) -> WorldStep:
        """Act for a frame, with features `[B, F]` of actions."""
        after = super().step(state, torch.cat((action, state.observation[:, self._seen :]), -1))
        moment: Moment = after.state
        seen = torch.cat((moment.observation, action), -1)
        return after._replace(state=moment._replace(observation=seen))


def seen_latents(encoder: SeenEncoder, data: Trajectories) -> Trajectories:
    """Return trajectories as an agent sees them, from their second frame on.

    Args:
        encoder: Of the frames.
        data: Before it, all of T steps.

    Returns:
        Trajectories of `T - 1` steps with observations `[N, T, 2 D + F]`.
    """
    frames = torch.from_numpy((data.observations - encoder.mean) / encoder.scale)
    frames = frames.reshape(*frames.shape[:2], *encoder.model.architecture.shape)
    latent = latent_trajectories(encoder.points(frames), data)
    done = data.action_features()
    return evolve(latent, observations=np.concatenate((latent.observations, done), -1))
