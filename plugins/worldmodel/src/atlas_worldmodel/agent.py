"""An agent: it acts, fits a world model to what it saw, and improves its policy, round by round.

A round plays until enough transitions are added, fits the ensemble, improves policy and value, and is done.
The first rounds act blind, under a declared law; later ones draw forces from the policy. An agent that is
given a world neither plays nor fits: its rounds improve alone. Every draw is keyed by purpose and number, so
that a round depends on the state before it and its number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from attrs import define, evolve, field

from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas_worldmodel.agent_settings import AgentSettings
from atlas_worldmodel.collection import Law, draw_actions, planned, play
from atlas_worldmodel.descent import descend, finite, optimizer_tensors, restore_optimizer
from atlas_worldmodel.ensemble import Ensemble, Transitions, transitions_of
from atlas_worldmodel.ensemble_fit import EnsembleFit
from atlas_worldmodel.environments import Environment
from atlas_worldmodel.imagination import imagine
from atlas_worldmodel.mechanical_world import GivenWorld, MechanicalWorld
from atlas_worldmodel.policy import Policy, Value
from atlas_worldmodel.policy_paths import imagined_outputs, played_outputs
from atlas_worldmodel.policy_terms import POLICY_SLOT
from atlas_worldmodel.trajectories import Episode, Trajectories

__all__ = ["Agent", "Progress"]

Progress = Callable[..., None]


@define(eq=False)
class Agent:
    """Policy, value, world model, and everything seen.

    Attributes:
        environment: Where it acts.
        settings: How it learns.
        objective: Terms of policy and value.
        random: Of everything that is drawn.
        law: Of blind actions.
        given: A world that was learned before; None for one of its own.
        episodes: Played so far.
        round: Rounds done.
    """

    environment: Environment
    settings: AgentSettings
    objective: Objective
    random: RandomStreams
    law: Law
    given: GivenWorld | None = None
    episodes: list[Episode] = field(factory=list)
    round: int = 0
    world: Ensemble | MechanicalWorld = field(init=False)
    policy: Policy = field(init=False)
    value: Value = field(init=False)
    slow_value: Value = field(init=False)
    _fit: EnsembleFit | None = field(init=False, default=None)
    _optimizer: torch.optim.Optimizer = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Draw the initial weights."""
        s, size, space = self.settings, self.environment.observation_size, self.environment.action_space
        if self.given is None:
            own = Ensemble(size, space.features, members=s.members, hidden=s.world_hidden, random=self.random)
            self.world, self._fit = own, EnsembleFit(own, s, self.random)
        else:
            self.world = self.given.world
        self.policy = Policy(size, space, hidden=s.policy_hidden, random=self.random)
        self.value = Value(size, hidden=s.policy_hidden, random=self.random)
        self.slow_value = Value(size, hidden=s.policy_hidden, random=self.random).requires_grad_(False)
        learners = [{"params": list(module.parameters())} for module in (self.policy, self.value)]
        self._optimizer = torch.optim.Adam(learners, s.rate)

    @property
    def transitions(self) -> int:
        """Steps of the environment that it learned from so far, those of a given world's data among them."""
        if self.given is not None:
            return self.given.data.transitions
        return sum(len(episode.actions) for episode in self.episodes)

    def trajectories(self) -> Trajectories:
        """Return everything seen."""
        if self.given is not None:
            return self.given.data
        return Trajectories.of(
            self.episodes,
            action_space=self.environment.action_space,
            environment=f"{self.environment.source}, {self.environment.name}",
            generator=f"{self.settings.blind_rounds} rounds {self.law}, then a policy's forces",
            seed=self.random.seed,
        )

    def advance(self, progress: Progress) -> dict[str, float]:
        """Do one round and return its figures: losses, and the mean return of its episodes where it played.

        Raises:
            InstrumentFailed: The environment raised, or a loss is not finite.
        """
        if self._fit is None:
            figures = self._improve(progress)
        else:
            played = self._play()
            figures = {"played_return": float(np.mean([float(e.rewards.sum()) for e in played]))}
            if self.settings.improvement == "imagination":
                data = transitions_of(self.trajectories())
                figures["world"] = self._fit.advance(data, self.round, progress)
                figures |= self._improve(progress)
            else:
                figures |= self._learn(self._fit.world, played)
        self.round += 1
        return figures

    # Playing

    def _play(self) -> list[Episode]:
        s, space = self.settings, self.environment.action_space
        limit = self.environment.time_limit
        blind = self.round < s.blind_rounds
        fresh: list[Episode] = []
        while sum(len(episode.actions) for episode in fresh) < s.round_transitions:
            number = len(self.episodes) + len(fresh)
            start = int(self.random.generator("start", number).integers(2**31))
            draws = self.random.generator("acting", number)
            if blind:
                act = planned(draw_actions(self.law, space, 1, limit, draws)[0])
            else:
                act = self._drawn(limit, draws)
            fresh.append(play(self.environment, act, steps=limit, seed=start))
        self.episodes += fresh
        return fresh

    def _drawn(self, limit: int, draws: np.random.Generator) -> Callable[[np.ndarray, int], np.ndarray]:
        """Return what acts by forces drawn from the policy."""
        noise, uniform = self._noise(limit, draws)

        @torch.no_grad()
        def act(observation: np.ndarray, step: int) -> np.ndarray:
            z = self._sight(observation)
            did = self.policy(z, noise[step : step + 1], uniform[step : step + 1])
            return self.environment.action_space.decode(did.features[0].numpy())

        return act

    def _noise(self, limit: int, draws: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise of an episode's forces `[limit, D]` and choices `[limit]`."""
        noise = torch.from_numpy(draws.standard_normal((limit, self.policy.latent))).float()
        return noise, torch.from_numpy(draws.random(limit)).float()

    def _sight(self, observation: np.ndarray) -> torch.Tensor:
        """Return where the policy sees an observation `[O]`, `[1, D]`."""
        return self.world.sight(torch.from_numpy(observation)[None])

    def act(self, observation: np.ndarray, step: int = 0) -> np.ndarray:
        """Return the action of the mean force at an observation."""
        with torch.no_grad():
            z = self._sight(observation)
            return self.environment.action_space.decode(self.policy.mean_action(z)[0].numpy())

    def returns(
        self, seeds: Sequence[int], states: Sequence[Sequence[float]] | None = None
    ) -> tuple[float, ...]:
        """Return the undiscounted returns of mean forces from fixed starts.

        Args:
            seeds: Of the starts.
            states: The simulator's states to start in, as many as seeds, in place of theirs.
        """
        limit = self.environment.time_limit
        found = []
        for number, seed in enumerate(seeds):
            state = None if states is None else states[number]
            episode = play(self.environment, self.act, steps=limit, seed=seed, state=state)
            found.append(float(episode.rewards.sum(dtype=np.float64)))
        return tuple(found)

    # Learning

    def _improve(self, progress: Progress) -> dict[str, float]:
        s = self.settings
        data = transitions_of(self.trajectories())
        unit = self._unit(data)
        self.world.requires_grad_(False)
        if self.round == 0:
            self.slow_value.load_state_dict(self.value.state_dict())
        rows = self.random.generator("imagination", self.round)
        noise = torch.Generator().manual_seed(int(rows.integers(2**63 - 1)))
        figures: dict[str, float] = {}
        for step in range(s.improve_steps):
            picked = torch.from_numpy(rows.integers(len(data.reward), size=s.improve_batch))
            begin = self.world.begin(data.observation[picked])
            path = imagine(self.world, self.policy, begin, s.horizon, noise)
            outputs = imagined_outputs(
                path, self.value, self.slow_value, unit=unit, discount=s.discount, trace=s.trace
            )
            value = self.objective({POLICY_SLOT: outputs})
            descend(self._optimizer, value.total, rate=s.rate, clip=s.clip)
            self._follow()
            if step % 50 == 0 or step == s.improve_steps - 1:
                figures = self._figures(value.terms)
                spelled = {name.replace("-", "_"): figure for name, figure in figures.items()}
                progress("improving", done=step, total=s.improve_steps, **spelled)
        self.world.requires_grad_(self.given is None)
        return figures

    def _unit(self, data: Transitions) -> float:
        """Return what a value of 1 is worth: a tenth of the discounted horizon of typical rewards."""
        return float(data.reward.square().mean().sqrt().clamp_min(1e-3)) / (1 - self.settings.discount) / 10

    def _learn(self, world: Ensemble, played: list[Episode]) -> dict[str, float]:
        """Take one step by what the policy played itself; a blind round only fixes where points lie."""
        s = self.settings
        if self.round < s.blind_rounds:
            world.normalise(transitions_of(self.trajectories()))
            return {}
        first = len(self.episodes) - len(played)
        data = self.trajectories().take(np.arange(first, first + len(played)))
        limit = self.environment.time_limit
        drawn = [self._noise(limit, self.random.generator("acting", first + n)) for n in range(len(played))]
        z = world.sight(torch.from_numpy(data.observations)).transpose(0, 1)
        unit = self._unit(transitions_of(data))
        outputs = played_outputs(
            self.policy, self.value, z, data, drawn, unit=unit, discount=s.discount, trace=s.trace
        )
        value = self.objective({POLICY_SLOT: outputs})
        descend(self._optimizer, value.total, rate=s.rate, clip=s.clip)
        # The value follows the same returns for more steps; the policy they speak of is gone after one.
        term = "policy-baseline"
        for _ in range(1, s.improve_steps if term in self.objective.active else 1):
            fitted = evolve(outputs, values=self.value(z[:-1]))
            descend(self._optimizer, self.objective.terms[term].function(fitted), rate=s.rate, clip=s.clip)
        return self._figures(value.terms)

    def _figures(self, terms: Mapping[str, torch.Tensor]) -> dict[str, float]:
        return {name: finite(name, float(part.detach()), self.round) for name, part in terms.items()}

    def _follow(self) -> None:
        """Let the slow value follow."""
        lag = self.settings.value_lag
        with torch.no_grad():
            for slow, live in zip(self.slow_value.parameters(), self.value.parameters(), strict=True):
                slow.lerp_(live, 1 - lag)

    # Keeping

    def state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that the next round depends on, by name."""
        tensors = {
            f"{name}.{key}": value
            for name, module in self._modules().items()
            for key, value in module.state_dict().items()
        }
        for name, optimizer in self._optimizers().items():
            tensors |= {f"{name}.{key}": value for key, value in optimizer_tensors(optimizer).items()}
        for number, episode in enumerate(self.episodes):
            ends = np.array([episode.terminated, episode.truncated])
            for key in ("observations", "actions", "rewards"):
                tensors[f"episode.{number}.{key}"] = torch.from_numpy(getattr(episode, key))
            tensors[f"episode.{number}.ends"] = torch.from_numpy(ends)
        return {name: value.detach().contiguous().clone() for name, value in tensors.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor], done: int) -> None:
        """Go on from what `state` returned after so many rounds."""
        for name, module in self._modules().items():
            module.load_state_dict(_under(tensors, f"{name}."))
        for name, optimizer in self._optimizers().items():
            restore_optimizer(optimizer, _under(tensors, f"{name}."))
        self.episodes = []
        while kept := _under(tensors, f"episode.{len(self.episodes)}."):
            observations, actions, rewards = (
                kept[key].numpy() for key in ("observations", "actions", "rewards")
            )
            terminated, truncated = kept["ends"].tolist()
            self.episodes.append(Episode(observations, actions, rewards, terminated, truncated))
        self.round = done

    def _modules(self) -> dict[str, torch.nn.Module]:
        """Return what learns; a given world does not."""
        own = {"policy": self.policy, "value": self.value, "slow_value": self.slow_value}
        return own if self.given is not None else {"world": self.world, **own}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        own = {"optimizer": self._optimizer}
        return own if self._fit is None else {"world_optimizer": self._fit.optimizer, **own}


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
