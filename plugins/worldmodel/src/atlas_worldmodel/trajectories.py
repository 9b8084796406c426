"""Recorded trajectories: what was observed, done and rewarded, from which generator and seed.

Trajectories of unequal length stand in one array, the shorter ones filled up with zeros; `lengths` says where
each ends, and no window reaches beyond it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from attrs import evolve, frozen

from atlas.errors import BadInput
from atlas_worldmodel.spaces import ActionSpace, Discrete, encode_space

__all__ = ["Episode", "Trajectories"]


@frozen(eq=False)
class Episode:
    """One trajectory by itself.

    Attributes:
        observations: `[T + 1, O]`.
        actions: `[T, A]`.
        rewards: `[T]`.
        terminated: The last state is one from which nothing follows.
        truncated: It was cut there by a limit of time.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool = False
    truncated: bool = True


@frozen(eq=False)
class Trajectories:
    """N trajectories of at most T transitions.

    Attributes:
        observations: `[N, T + 1, O]` float32; row t is seen before action t.
        actions: `[N, T, A]`: float32 of a box, int64 with A = 1 of choices.
        rewards: `[N, T]` float32.
        lengths: `[N]` int64, transitions of each.
        terminated: `[N]` bool; its last state is one from which nothing follows.
        truncated: `[N]` bool; it was cut by a limit of time.
        action_space: What actions were possible.
        environment: What was observed, `gymnasium Pendulum-v1`.
        generator: The law of its actions, in words.
        seed: Of starts and actions.

    Raises:
        BadInput: Shapes do not fit each other, a value is not finite, or an action is out of range; the
            message names the first trajectory, step and place.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    action_space: ActionSpace
    environment: str
    generator: str
    seed: int

    def __attrs_post_init__(self) -> None:
        """Refuse what no model can be trained on."""
        self._check_shapes()
        for name in ("observations", "actions", "rewards"):
            self._refuse(name, ~np.isfinite(getattr(self, name)), "is not finite")
        self._refuse(
            "actions",
            self.action_space.outside(self.actions) & self.mask[..., None],
            f"is not in {self.action_space}",
        )
        after, unseen = ~self.mask, ~self.seen
        for name, where in (("actions", after), ("rewards", after), ("observations", unseen)):
            values = getattr(self, name)
            where = where.reshape(*where.shape, *[1] * (values.ndim - 2))
            self._refuse(
                name, (values != 0) & where, "stands after the trajectory's end, where 0 is expected"
            )

    def _check_shapes(self) -> None:
        if self.observations.ndim != 3 or 0 in self.observations.shape or self.observations.shape[1] < 2:
            raise BadInput(
                f"observations have the shape {list(self.observations.shape)}, expected [N, T + 1, O]",
                where=self.environment,
            )
        count, steps = self.observations.shape[0], self.observations.shape[1] - 1
        expected: dict[str, tuple[tuple[int, ...], type]] = {
            "observations": (self.observations.shape, np.float32),
            "actions": ((count, steps, self.action_space.width), _action_type(self.action_space)),
            "rewards": ((count, steps), np.float32),
            "lengths": ((count,), np.int64),
            "terminated": ((count,), np.bool_),
            "truncated": ((count,), np.bool_),
        }
        for name, (shape, kind) in expected.items():
            found = getattr(self, name)
            if found.shape != shape or found.dtype != kind:
                raise BadInput(
                    f"{name} are {found.dtype} of shape {list(found.shape)}, expected {kind.__name__} of "
                    f"{list(shape)}, beside observations of {list(self.observations.shape)}",
                    where=self.environment,
                    fix="give one observation more than actions; trajectories of unequal length are put "
                    "together by `Trajectories.of`",
                )
        if self.lengths.min() < 1 or self.lengths.max() != steps:
            raise BadInput(
                f"lengths are {self.lengths.min()} to {self.lengths.max()}, expected at least 1 and at most "
                f"{steps}, which one has",
                where=self.environment,
            )

    def _refuse(self, name: str, bad: np.ndarray, why: str) -> None:
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            number = f", number {place[2]}" if len(place) > 2 else ""
            raise BadInput(
                f"{name.removesuffix('s')} {getattr(self, name)[place]:g} {why}",
                where=f"{self.environment}, trajectory {place[0]}, step {place[1]}{number}",
                fix="leave the trajectory out, or correct it where it was made",
            )

    @classmethod
    def of(
        cls,
        episodes: Iterable[Episode],
        *,
        action_space: ActionSpace,
        environment: str,
        generator: str,
        seed: int,
    ) -> Trajectories:
        """Put episodes together, the shorter ones filled up with zeros.

        Raises:
            BadInput: There are none, or their sizes do not fit each other; see the class.
        """
        given = list(episodes)
        if not given:
            raise BadInput("there are no trajectories", where=environment)
        lengths = [len(e.actions) for e in given]
        for number, (episode, length) in enumerate(zip(given, lengths, strict=True)):
            sizes = len(episode.observations), length, len(episode.rewards)
            if sizes != (length + 1, length, length) or not length:
                raise BadInput(
                    "{} observations, {} actions and {} rewards make no trajectory".format(*sizes),
                    where=f"{environment}, trajectory {number}",
                    fix="give one observation more than actions, and a reward for each action",
                )
            if episode.observations.shape[1:] != given[0].observations.shape[1:]:
                raise BadInput(
                    f"observations are of shape {list(episode.observations.shape[1:])}, those before "
                    f"of {list(given[0].observations.shape[1:])}",
                    where=f"{environment}, trajectory {number}",
                )
        most = max(lengths)
        kind = _action_type(action_space)
        return cls(
            observations=_filled([e.observations for e in given], most + 1, np.float32),
            actions=_filled([np.reshape(e.actions, (len(e.actions), -1)) for e in given], most, kind),
            rewards=_filled([e.rewards for e in given], most, np.float32),
            lengths=np.array(lengths, dtype=np.int64),
            terminated=np.array([e.terminated for e in given], dtype=np.bool_),
            truncated=np.array([e.truncated for e in given], dtype=np.bool_),
            action_space=action_space,
            environment=environment,
            generator=generator,
            seed=seed,
        )

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.lengths)

    @property
    def transitions(self) -> int:
        """Steps of all trajectories together."""
        return int(self.lengths.sum())

    @property
    def observation_size(self) -> int:
        """Numbers of an observation, O."""
        return int(self.observations.shape[2])

    @property
    def longest(self) -> int:
        """Steps of the longest trajectory, T."""
        return int(self.lengths.max())

    @property
    def mask(self) -> np.ndarray:
        """Whether each step is one, `[N, T]` bool; False where a shorter trajectory is filled up."""
        within: np.ndarray = np.arange(self.actions.shape[1]) < self.lengths[:, None]
        return within

    @property
    def seen(self) -> np.ndarray:
        """Whether each observation is one, `[N, T + 1]` bool; False where a trajectory is filled up."""
        return np.pad(self.mask, ((0, 0), (1, 0)), constant_values=True)

    def action_features(self) -> np.ndarray:
        """Return the actions as a model reads them, `[N, T, F]` float32.

        Numbers of a box are scaled to -1 .. 1; a choice is a row of zeros and a one. Zero where filled up.
        """
        features: np.ndarray = self.action_space.encode(self.actions) * self.mask[..., None]
        return features

    def take(self, rows: Sequence[int] | np.ndarray) -> Trajectories:
        """Return some of the trajectories, by number."""
        picked = np.asarray(rows, dtype=np.int64)
        arrays: dict[str, Any] = {name: getattr(self, name)[picked] for name in _ARRAYS}
        steps = int(arrays["lengths"].max())
        for name, length in (("observations", steps + 1), ("actions", steps), ("rewards", steps)):
            arrays[name] = arrays[name][:, :length]
        return evolve(self, **arrays)

    def split(self, share: float, generator: np.random.Generator) -> tuple[Trajectories, Trajectories]:
        """Return training and test trajectories, whole ones, in a random order's last `share` for the test.

        Raises:
            BadInput: There is only one.
        """
        if len(self) < 2:
            raise BadInput("one trajectory cannot be split into training and test", where=self.environment)
        order = generator.permutation(len(self))
        held_out = min(len(self) - 1, max(1, round(share * len(self))))
        return self.take(np.sort(order[:-held_out])), self.take(np.sort(order[-held_out:]))

    def windows(self, horizon: int, stride: int = 1) -> np.ndarray:
        """Return trajectory and first step of every stretch of `horizon` transitions, `[M, 2]` int64.

        Args:
            horizon: Transitions of a stretch.
            stride: Steps between the beginnings of two.

        Raises:
            BadInput: The horizon is longer than every trajectory.
        """
        if not 1 <= horizon <= self.longest:
            raise BadInput(
                f"a horizon of {horizon} steps does not fit trajectories of at most {self.longest}",
                where=self.environment,
                fix=f"set a horizon of 1 to {self.longest}, or give longer trajectories",
            )
        found = [
            np.stack([np.full(starts.size, number), starts], 1)
            for number, length in enumerate(self.lengths)
            if (starts := np.arange(0, length - horizon + 1, stride)).size
        ]
        return np.concatenate(found).astype(np.int64)

    def facts(self) -> dict[str, Any]:
        """Return what is known of the making, as plain values."""
        return {
            "environment": self.environment,
            "generator": self.generator,
            "seed": self.seed,
            "action_space": encode_space(self.action_space),
        }

    @property
    def digest(self) -> str:
        """sha256 over facts and arrays: equal for equal data, in whichever kind of file."""
        found = hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode())
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            found.update(array.tobytes())
        return found.hexdigest()


_ARRAYS = ("observations", "actions", "rewards", "lengths", "terminated", "truncated")


def _action_type(space: ActionSpace) -> type:
    return np.int64 if isinstance(space, Discrete) else np.float32


def _filled(parts: Sequence[np.ndarray], length: int, dtype: Any) -> np.ndarray:
    """Stack arrays of unequal length, filled up with zeros."""
    first = np.asarray(parts[0])
    result = np.zeros((len(parts), length, *first.shape[1:]), dtype=dtype)
    for number, part in enumerate(parts):
        result[number, : len(part)] = part
    return result
