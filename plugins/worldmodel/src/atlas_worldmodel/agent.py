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
from atlas_topoencoder.devices import PLAIN, Device, moved
from atlas_topoencoder.graphed_step import GraphedStep
from attrs import define, field

from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas_worldmodel.agent_settings import AgentSettings
from atlas_worldmodel.collection import Law, draw_actions, planned, play
from atlas_worldmodel.descent import descend, finite, groups_of, optimizer_tensors, restore_optimizer, under
from atlas_worldmodel.ensemble import Ensemble, Transitions, transitions_of
from atlas_worldmodel.ensemble_fit import EnsembleFit
from atlas_worldmodel.environments import Environment
from atlas_worldmodel.given_world import GivenWorld
from atlas_worldmodel.imagination import Draws, draw_paths, imagine
from atlas_worldmodel.mechanical_world import MechanicalWorld
from atlas_worldmodel.policy import Policy, Value
from atlas_worldmodel.policy_paths import imagined_outputs, played_outputs
from atlas_worldmodel.policy_terms import POLICY_SLOT, PolicyOutputs
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
        device: Where it learns.
        episodes: Played so far.
        round: Rounds done.
    """

    environment: Environment
    settings: AgentSettings
    objective: Objective
    random: RandomStreams
    law: Law
    given: GivenWorld | None = None
    device: Device = PLAIN
    episodes: list[Episode] = field(factory=list)
    round: int = 0
    world: Ensemble | MechanicalWorld = field(init=False)
    policy: Policy = field(init=False)
    value: Value = field(init=False)
    slow_value: Value = field(init=False)
    _fit: EnsembleFit | None = field(init=False, default=None)
    _optimizer: torch.optim.Optimizer = field(init=False)
    _outputs: Callable[..., PolicyOutputs] = field(init=False)
    _graphed: GraphedStep[Mapping[str, torch.Tensor]] = field(init=False)
    _unit: torch.Tensor = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Draw the initial weights."""
        s, size, space = self.settings, self.environment.observation_size, self.environment.action_space
        if self.given is None:
            own = Ensemble(size, space.features, members=s.members, hidden=s.world_hidden, random=self.random)
            self.world = own.to(self.device.device)
            self._fit = EnsembleFit(own, s, self.random, self.device)
        else:
            self.world = self.given.world.to(self.device.device)
        self.policy = Policy(size, space, hidden=s.policy_hidden, random=self.random)
        self.value = Value(size, hidden=s.policy_hidden, random=self.random)
        self.slow_value = Value(size, hidden=s.policy_hidden, random=self.random).requires_grad_(False)
        for module in (self.policy, self.value, self.slow_value):
            module.to(self.device.device)
        groups = groups_of((self.policy, self.value), s.rate, self.device)
        self._optimizer = torch.optim.Adam(groups, capturable=self.device.graphs)
        self._outputs = torch.compile(self._imagined) if self.device.compiles else self._imagined
        self._graphed = GraphedStep(self._improved)
        self._unit = torch.ones((), device=self.device.device)

    @property
    def transitions(self) -> int:
        """Steps of the environment that it learned from so far, those of a given world's data among them."""
        if self.given is not None:
            return self.given.transitions
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
                data = self._data()
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
            return self.environment.action_space.decode(did.features[0].cpu().numpy())

        return act

    def _noise(self, limit: int, draws: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise of an episode's forces `[limit, D]` and choices `[limit]`."""
        noise = torch.from_numpy(draws.standard_normal((limit, self.policy.latent))).float()
        uniform = torch.from_numpy(draws.random(limit)).float()
        return noise.to(self.device.device), uniform.to(self.device.device)

    def _sight(self, observation: np.ndarray) -> torch.Tensor:
        """Return where the policy sees an observation `[O]`, `[1, D]`."""
        return self.world.sight(torch.from_numpy(observation)[None].to(self.device.device))

    def act(self, observation: np.ndarray, step: int = 0) -> np.ndarray:
        """Return the action of the mean force at an observation."""
        with torch.no_grad():
            z = self._sight(observation)
            return self.environment.action_space.decode(self.policy.mean_action(z)[0].cpu().numpy())

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

    def _data(self) -> Transitions:
        """Return everything seen, on the device."""
        found = transitions_of(self.trajectories())
        return Transitions(*(part.to(self.device.device) for part in found))

    def _improve(self, progress: Progress) -> dict[str, float]:
        s = self.settings
        data = self._data()
        self._unit.copy_(self._worth(data))
        self.world.requires_grad_(False)
        if self.round == 0:
            self.slow_value.load_state_dict(self.value.state_dict())
        rows = self.random.generator("imagination", self.round)
        noise = torch.Generator().manual_seed(int(rows.integers(2**63 - 1)))
        step_of = self._graphed if self.device.graphs else self._improved
        figures: dict[str, float] = {}
        for step in range(s.improve_steps):
            picked = torch.from_numpy(rows.integers(len(data.reward), size=s.improve_batch))
            drawn = draw_paths(s.horizon, s.improve_batch, self.policy.latent, noise)
            where = self.device.device
            begin = data.observation[moved(picked, where)]
            terms = step_of(begin, *(moved(part, where) for part in drawn))
            if step % 50 == 0 or step == s.improve_steps - 1:
                figures = self._figures(terms)
                spelled = {name.replace("-", "_"): figure for name, figure in figures.items()}
                progress("improving", done=step, total=s.improve_steps, **spelled)
        self.world.requires_grad_(self.given is None)
        return figures

    def _imagined(self, observation: torch.Tensor, draws: Draws) -> PolicyOutputs:
        """Return what policy and value say of paths that begin at observations `[B, O]`."""
        s = self.settings
        path = imagine(self.world, self.policy, self.world.begin(observation), draws)
        return imagined_outputs(
            path, self.value, self.slow_value, unit=self._unit, discount=s.discount, trace=s.trace
        )

    def _improved(self, *drawn: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Take a step of policy and value, and return the terms before their weights."""
        observation, noise, uniform = drawn
        value = self.objective({POLICY_SLOT: self._outputs(observation, Draws(noise, uniform))})
        descend(self._optimizer, value.total, clip=self.settings.clip)
        self._follow()
        return {name: term.detach() for name, term in value.terms.items()}

    def _worth(self, data: Transitions) -> torch.Tensor:
        """Return what a value of 1 is worth: a tenth of the discounted horizon of typical rewards."""
        return data.reward.square().mean().sqrt().clamp_min(1e-3) / (1 - self.settings.discount) / 10

    def _learn(self, world: Ensemble, played: list[Episode]) -> dict[str, float]:
        """Take one step by what the policy played itself; a blind round only fixes where points lie."""
        s = self.settings
        if self.round < s.blind_rounds:
            world.normalise(self._data())
            return {}
        first = len(self.episodes) - len(played)
        data = self.trajectories().take(np.arange(first, first + len(played)))
        limit = self.environment.time_limit
        drawn = [self._noise(limit, self.random.generator("acting", first + n)) for n in range(len(played))]
        z = world.sight(torch.from_numpy(data.observations).to(self.device.device)).transpose(0, 1)
        unit = self._worth(transitions_of(data)).to(z.device)
        outputs = played_outputs(
            self.policy, self.value, z, data, drawn, unit=unit, discount=s.discount, trace=s.trace
        )
        value = self.objective({POLICY_SLOT: outputs})
        descend(self._optimizer, value.total, clip=s.clip)
        # The value follows the same returns for more steps; the policy they speak of is gone after one.
        term = "policy-baseline"
        for _ in range(1, s.improve_steps if term in self.objective.active else 1):
            fitted = outputs._replace(values=self.value(z[:-1]))
            descend(self._optimizer, self.objective.terms[term].function(fitted), clip=s.clip)
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
        return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}

    def restore(self, tensors: Mapping[str, torch.Tensor], done: int) -> None:
        """Go on from what `state` returned after so many rounds."""
        for name, module in self._modules().items():
            module.load_state_dict(under(tensors, f"{name}."))
        for name, optimizer in self._optimizers().items():
            restore_optimizer(optimizer, under(tensors, f"{name}."))
        self.episodes = []
        while kept := under(tensors, f"episode.{len(self.episodes)}."):
            observations, actions, rewards = (
                kept[key].numpy() for key in ("observations", "actions", "rewards")
            )
            terminated, truncated = kept["ends"].tolist()
            self.episodes.append(Episode(observations, actions, rewards, terminated, truncated))
        self.round = done
        self._graphed.forget()
        if self._fit is not None:
            self._fit.forget()

    def _modules(self) -> dict[str, torch.nn.Module]:
        """Return what learns; a given world does not."""
        own = {"policy": self.policy, "value": self.value, "slow_value": self.slow_value}
        return own if self.given is not None else {"world": self.world, **own}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        own = {"optimizer": self._optimizer}
        return own if self._fit is None else {"world_optimizer": self._fit.optimizer, **own}
