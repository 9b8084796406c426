"""Trajectories collected with actions that do not depend on the state, under a declared law.

Such actions tell a model nothing about the state that they meet, so that how well it predicts cannot be
borrowed from them. All actions are drawn before the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from attrs import frozen

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas_worldmodel.environments import Environment
from atlas_worldmodel.spaces import ActionSpace, Discrete
from atlas_worldmodel.trajectories import Episode, Trajectories

__all__ = ["Law", "collect", "draw_actions", "planned", "play"]


@frozen
class Law:
    """How actions are drawn.

    Attributes:
        kind: `uniform`, each anew; `held`, uniform and kept for `steps`; `smooth`, a Gaussian process with
            that correlation time, scaled to the bounds and cut there; `mixed`, a random half of the
            trajectories uniform, the others held.
        steps: How long an action is kept, or the correlation time of smooth ones.

    Raises:
        BadInput: The kind is none of these, or the time is no positive number of steps.
    """

    kind: str = "mixed"
    steps: int = 5

    def __attrs_post_init__(self) -> None:
        """Refuse what is no law."""
        if self.kind not in _LAWS:
            raise BadInput(
                f"there is no law {self.kind!r}", where="law", fix=f"choose one of {', '.join(_LAWS)}"
            )
        if self.steps < 1:
            raise BadInput(f"actions are kept for {self.steps} steps, expected 1 or more", where="law")

    def __str__(self) -> str:
        """Say it in words."""
        return {
            "uniform": "uniform",
            "held": f"uniform, held for {self.steps} steps",
            "smooth": f"smooth noise with a correlation time of {self.steps} steps",
            "mixed": f"uniform in a random half of the trajectories, held for {self.steps} steps in others",
        }[self.kind]


def draw_actions(
    law: Law, space: ActionSpace, count: int, steps: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the actions of `count` trajectories, `[count, steps, A]`, of the type that is stored."""
    level = _LAWS[law.kind](law, (count, steps, space.width), generator)
    if isinstance(space, Discrete):
        return np.minimum((level * space.count).astype(np.int64), space.count - 1)
    return space.decode(2 * level - 1).astype(np.float32)


def _uniform(law: Law, shape: tuple[int, int, int], generator: np.random.Generator) -> np.ndarray:
    return generator.random(shape)


def _held(law: Law, shape: tuple[int, int, int], generator: np.random.Generator) -> np.ndarray:
    count, steps, width = shape
    kept = generator.random((count, -(-steps // law.steps), width))
    return np.repeat(kept, law.steps, axis=1)[:, :steps]


def _smooth(law: Law, shape: tuple[int, int, int], generator: np.random.Generator) -> np.ndarray:
    """Draw an autoregressive process of unit variance; two standard deviations reach the bounds."""
    kept = float(np.exp(-1 / law.steps))
    noise = generator.standard_normal(shape)
    level = noise.copy()
    for step in range(1, shape[1]):
        level[:, step] = kept * level[:, step - 1] + np.sqrt(1 - kept**2) * noise[:, step]
    cut: np.ndarray = np.clip((level / 2 + 1) / 2, 0, 1)
    return cut


def _mixed(law: Law, shape: tuple[int, int, int], generator: np.random.Generator) -> np.ndarray:
    uniform, held = _uniform(law, shape, generator), _held(law, shape, generator)
    first = generator.permutation(shape[0]) < shape[0] // 2
    return np.where(first[:, None, None], uniform, held)


_LAWS: Mapping[str, Callable[[Law, tuple[int, int, int], np.random.Generator], np.ndarray]] = {
    "uniform": _uniform,
    "held": _held,
    "smooth": _smooth,
    "mixed": _mixed,
}


def play(
    environment: Environment,
    act: Callable[[np.ndarray, int], np.ndarray],
    *,
    steps: int,
    seed: int,
    state: Any = None,
) -> Episode:
    """Return an episode from a start, until it ends or for so many steps.

    Args:
        environment: Where it is played.
        act: Maps an observation `[O]` and the step's number to an action `[A]`.
        steps: Most steps.
        seed: Of the start.
        state: The simulator's state to begin in, in place of the seed's start.

    Raises:
        InstrumentFailed: The environment raised.
    """
    observations, actions, rewards = [environment.reset(seed, state)], [], []
    terminated = False
    for step in range(steps):
        action = act(observations[-1], step)
        outcome = environment.step(action)
        actions.append(np.atleast_1d(action))
        observations.append(outcome.observation)
        rewards.append(outcome.reward)
        terminated = outcome.terminated
        if terminated or outcome.truncated:
            break
    return Episode(
        np.stack(observations), np.stack(actions), np.array(rewards, np.float32), terminated, not terminated
    )


def collect(
    environment: Environment,
    *,
    transitions: int,
    steps: int | None = None,
    law: Law,
    random: RandomStreams,
    progress: Callable[[int], None] | None = None,
) -> Trajectories:
    """Return at least so many transitions, whole trajectories.

    Args:
        environment: Where they are collected.
        transitions: How many at least.
        steps: Of a trajectory at most; None for the environment's limit of time.
        law: Of the actions.
        random: Of starts and actions.
        progress: Told the transitions so far after each trajectory.

    Raises:
        BadInput: A trajectory is asked to be longer than the environment's limit of time.
        InstrumentFailed: The environment raised.
    """
    limit = environment.time_limit
    length = limit if steps is None else steps
    if not 1 <= length <= limit:
        raise BadInput(
            f"trajectories of {length} steps are asked for, and the environment's limit is {limit}",
            where=environment.name,
            fix=f"set a length of 1 to {limit}",
        )
    episodes: list[Episode] = []
    done = block = 0
    while done < transitions:
        count = -(-(transitions - done) // length)
        actions = draw_actions(
            law, environment.action_space, count, length, random.generator("actions", block)
        )
        seeds = random.generator("starts", block).integers(2**31, size=count)
        for row in range(count):
            if done >= transitions:
                break
            episode = play(environment, planned(actions[row]), steps=length, seed=int(seeds[row]))
            episodes.append(episode)
            done += len(episode.actions)
            if progress is not None:
                progress(done)
        block += 1
    return Trajectories.of(
        episodes,
        action_space=environment.action_space,
        environment=f"{environment.source}, {environment.name}",
        generator=str(law),
        seed=random.seed,
    )


def planned(actions: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return what acts as was drawn, whatever it sees."""
    return lambda observation, step: np.asarray(actions[step])
