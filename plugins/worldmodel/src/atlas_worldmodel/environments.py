"""Environments behind one small interface: gymnasium's classic control, and dm_control where it is installed.

A name says where an environment comes from: `Pendulum-v1` is gymnasium's, `dm_control/cartpole-swingup` the
suite's. Both libraries are imported when one is opened. An environment that is reset with a seed, or put into
a state, does the same each time. What it raises becomes an `InstrumentFailed` that names it and the step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np
from attrs import define, field, frozen

from atlas.errors import BadInput, InstrumentFailed
from atlas_worldmodel.spaces import ActionSpace, Box, Discrete

__all__ = ["AroundEnvironment", "Environment", "Outcome", "open_environment"]


@frozen(eq=False)
class Outcome:
    """What followed an action.

    Attributes:
        observation: `[O]` float32.
        reward: Of the action.
        terminated: Nothing follows from the state.
        truncated: The environment's limit of time is reached.
    """

    observation: np.ndarray
    reward: float
    terminated: bool
    truncated: bool


class Environment(Protocol):
    """One environment; an action is `[A]`, a number of a box each or the one choice.

    Attributes:
        name: As it is opened by.
        source: Name and version of the library.
        action_space: What it takes.
        observation_size: Numbers of an observation, O.
        time_limit: Actions until it truncates.
    """

    name: str
    source: str
    action_space: ActionSpace
    observation_size: int
    time_limit: int

    def reset(self, seed: int, state: Sequence[float] | None = None) -> np.ndarray:
        """Begin anew and return the observation.

        Args:
            seed: Of the start, and of whatever is random after it.
            state: The simulator's own state to begin in, in place of the seed's start.

        Raises:
            BadInput: The state does not fit.
        """
        ...

    def step(self, action: np.ndarray) -> Outcome:
        """Act.

        Raises:
            InstrumentFailed: The environment raised, or an observation or reward is not finite.
        """
        ...


def open_environment(name: str, action_repeat: int = 1) -> Environment:
    """Open an environment by its name.

    Args:
        name: `Pendulum-v1`, or another id of gymnasium's, or `dm_control/DOMAIN-TASK`.
        action_repeat: Steps of the environment for which an action is kept; their rewards are added. The
            limit of time counts actions.

    Raises:
        BadInput: There is none of that name, its spaces are of another kind, or its library is missing.
    """
    domain, _, task = name.partition("/")
    opened = _Suite(name, task) if domain == "dm_control" and task else _Gymnasium(name)
    return opened if action_repeat == 1 else _Repeating(opened, action_repeat)


def _outcome(
    name: str, step: int, observation: np.ndarray, reward: float, terminated: bool, truncated: bool
) -> Outcome:
    if not (np.isfinite(observation).all() and np.isfinite(reward)):
        raise InstrumentFailed(
            f"the environment gave the observation {observation.tolist()} and the reward {reward}",
            where=f"{name}, step {step}",
            fix="choose another seed or milder actions; trajectories so far are kept",
        )
    return Outcome(observation.astype(np.float32), float(reward), bool(terminated), bool(truncated))


def _raised(name: str, step: int, error: Exception) -> InstrumentFailed:
    return InstrumentFailed(
        f"the environment raised {type(error).__name__}: {error}", where=f"{name}, step {step}"
    )


@define
class _Gymnasium:
    """An environment of gymnasium's, without its checks of every step."""

    name: str
    source: str = field(init=False)
    action_space: ActionSpace = field(init=False)
    observation_size: int = field(init=False)
    time_limit: int = field(init=False)
    _inner: Any = field(init=False)
    _steps: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        import gymnasium

        try:
            made = gymnasium.make(self.name, disable_env_checker=True)
        except gymnasium.error.Error as error:
            known = "Acrobot-v1, CartPole-v1, MountainCar-v0, MountainCarContinuous-v0, Pendulum-v1"
            raise BadInput(
                f"gymnasium opens no environment {self.name!r}: {error}",
                fix=f"choose one of {known}, or `dm_control/DOMAIN-TASK`",
            ) from error
        self._inner = made.unwrapped
        self.time_limit = (made.spec and made.spec.max_episode_steps) or 1000
        self.source = f"gymnasium {gymnasium.__version__}"
        seen, taken = self._inner.observation_space, self._inner.action_space
        if not isinstance(seen, gymnasium.spaces.Box) or len(seen.shape) != 1:
            raise BadInput(f"observations are {seen}, expected a row of numbers", where=self.name)
        self.observation_size = seen.shape[0]
        if isinstance(taken, gymnasium.spaces.Discrete):
            self.action_space = Discrete(int(taken.n))
        elif isinstance(taken, gymnasium.spaces.Box) and len(taken.shape) == 1:
            self.action_space = Box(taken.low, taken.high)
        else:
            raise BadInput(f"actions are {taken}, expected a box or choices", where=self.name)

    def reset(self, seed: int, state: Sequence[float] | None = None) -> np.ndarray:
        self._steps = 0
        observation, _ = self._inner.reset(seed=seed)
        if state is None:
            return np.asarray(observation, dtype=np.float32)
        own = np.asarray(self._inner.state, dtype=np.float64)
        if len(state) != own.size:
            raise BadInput(f"a state of {len(state)} numbers, expected {own.size}", where=self.name)
        self._inner.state = np.asarray(state, dtype=np.float64)
        # What an environment observes of its state is its own secret, but for these two conventions.
        look = getattr(self._inner, "_get_obs", None) or getattr(self._inner, "_get_ob", None)
        return np.asarray(state if look is None else look(), dtype=np.float32)

    def step(self, action: np.ndarray) -> Outcome:
        self._steps += 1
        given = int(action[0]) if isinstance(self.action_space, Discrete) else np.asarray(action, np.float64)
        try:
            observation, reward, terminated, _, _ = self._inner.step(given)
        except Exception as error:
            raise _raised(self.name, self._steps, error) from error
        return _outcome(
            self.name, self._steps, observation, reward, terminated, self._steps >= self.time_limit
        )


@define
class _Suite:
    """An environment of dm_control's suite, from states; nothing is rendered."""

    name: str
    task: str
    source: str = field(init=False)
    action_space: ActionSpace = field(init=False)
    observation_size: int = field(init=False)
    time_limit: int = field(init=False)
    _inner: Any = field(init=False)
    _steps: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        os.environ.setdefault("MUJOCO_GL", "disabled")  # read when dm_control is imported: no display
        try:
            from importlib.metadata import version

            from dm_control import suite
        except ImportError as error:
            raise BadInput(
                "environments of dm_control need that package, which is not installed",
                where=self.name,
                fix='pip install "atlas-worldmodel[dm-control]"',
            ) from error
        domain, _, task = self.task.partition("-")
        if (domain, task) not in suite.ALL_TASKS:
            known = [f"{d}-{t}" for d, t in suite.BENCHMARKING]
            near = get_close_matches(self.task, known, n=5, cutoff=0.3) or known
            raise BadInput(
                f"dm_control has no task {self.task!r}",
                where=self.name,
                fix=f"choose one of {', '.join(near)}",
            )
        self._inner = suite.load(domain, task, task_kwargs={"random": 0})
        self.source = f"dm-control {version('dm-control')}, mujoco {version('mujoco')}"
        spec = self._inner.action_spec()
        self.action_space = Box(spec.minimum, spec.maximum)
        self.time_limit = int(getattr(self._inner, "_step_limit", 1000))
        self.observation_size = self._observed(self._inner.reset()).size

    def _observed(self, moment: Any) -> np.ndarray:
        return np.concatenate([np.ravel(part) for part in moment.observation.values()])

    def reset(self, seed: int, state: Sequence[float] | None = None) -> np.ndarray:
        self._steps = 0
        self._inner.task.random.seed(seed % 2**32)
        moment = self._inner.reset()
        if state is None:
            return self._observed(moment).astype(np.float32)
        physics = self._inner.physics
        own = physics.get_state()
        if len(state) != own.size:
            raise BadInput(f"a state of {len(state)} numbers, expected {own.size}", where=self.name)
        with physics.reset_context():
            physics.set_state(np.asarray(state, dtype=np.float64))
        parts = self._inner.task.get_observation(physics).values()
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)

    def step(self, action: np.ndarray) -> Outcome:
        self._steps += 1
        try:
            moment = self._inner.step(np.asarray(action, dtype=np.float64))
        except Exception as error:
            raise _raised(self.name, self._steps, error) from error
        ended = moment.last()
        return _outcome(
            self.name,
            self._steps,
            self._observed(moment),
            moment.reward,
            ended and moment.discount == 0,
            ended and moment.discount != 0,
        )


@define(eq=False)
class AroundEnvironment:
    """An environment that appears as another but for what a subclass changes.

    Attributes:
        inner: The other.
    """

    inner: Environment
    name: str = field(init=False)
    source: str = field(init=False)
    action_space: ActionSpace = field(init=False)
    observation_size: int = field(init=False)
    time_limit: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Take over what the other says of itself."""
        inner = self.inner
        self.name, self.source, self.action_space = inner.name, inner.source, inner.action_space
        self.observation_size, self.time_limit = inner.observation_size, inner.time_limit

    def reset(self, seed: int, state: Sequence[float] | None = None) -> np.ndarray:
        """Begin anew; see `Environment.reset`."""
        return self.inner.reset(seed, state)

    def step(self, action: np.ndarray) -> Outcome:
        """Act; see `Environment.step`."""
        return self.inner.step(action)


@define(eq=False)
class _Repeating(AroundEnvironment):
    """Keeps each action for some steps and adds up their rewards."""

    _times: int

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.name = f"{self.inner.name}, each action for {self._times} steps"
        self.time_limit = -(-self.inner.time_limit // self._times)

    def step(self, action: np.ndarray) -> Outcome:
        total = 0.0
        for _ in range(self._times):
            outcome = self.inner.step(action)
            total += outcome.reward
            if outcome.terminated or outcome.truncated:
                break
        return Outcome(outcome.observation, total, outcome.terminated, outcome.truncated)
