"""The learned world: heads that act, the step B R A O A R B, and paths that actions lead along.

A frame is the unit of time. Two numbers say how an observation stands to the integrator's state. Simulators
differ in when within a frame a measured velocity is that of and when an action takes hold: `lag` is the time
from the measured velocity to the state's, and `lead` the share of the action's impulse that comes before the
drift. With `lag = lead = 1/2` and 1 the step is that of Euler and Cromer, with 0 and 1/2 that of Verlet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from atlas.randomness import RandomStreams
from atlas_worldmodel.fields import Fields, FieldSizes, ScalarHead
from atlas_worldmodel.observation_chart import ObservationChart, normal_coordinates
from atlas_worldmodel.splitting import State, drift, rotate

__all__ = ["Acting", "Forces", "Path", "WorldModel"]


class Acting(NamedTuple):
    """What acts at points.

    Attributes:
        pull: Conservative force in the orthonormal frame, `[B, D]`.
        drive: Force of a unit of each action, likewise, `[B, D, A]`.
        field: Closed two-form, `[B, D, D]`; None without one.
        friction: Rate per frame, a scalar or `[B, 1]`.
    """

    pull: torch.Tensor
    drive: torch.Tensor
    field: torch.Tensor | None
    friction: torch.Tensor


Forces = Callable[[torch.Tensor], Acting]
"""Maps points `[B, D]` to what acts there."""


class Path(NamedTuple):
    """Where actions lead from a first observation.

    Attributes:
        states: Points and velocities after each action, `[B, H, D]`.
        observations: `[B, H, O]`.
        rewards: `[B, H]`.
        energies: Kinetic and potential, the first state's before them, `[B, H + 1]`.
        work: Of the action since the beginning, `[B, H]`.
        heat: Taken by friction and by the bound on velocities since the beginning, `[B, H]`; negative.
    """

    states: State
    observations: torch.Tensor
    rewards: torch.Tensor
    energies: torch.Tensor
    work: torch.Tensor
    heat: torch.Tensor


class WorldModel(nn.Module):
    """A mechanical system learned from observations.

    Args:
        chart: Of the observations, fitted.
        actions: A.
        sizes: Widths of the heads.
        speed: Greatest measured velocity of each coordinate, `[D]`, beyond which none goes; None for none.
        unit: Typical change of a velocity in a frame.
        random: Streams that the initial weights are drawn from.
    """

    speed: torch.Tensor
    reward_mean: torch.Tensor
    reward_scale: torch.Tensor
    velocity_scale: torch.Tensor

    def __init__(
        self,
        chart: ObservationChart,
        actions: int,
        sizes: FieldSizes,
        *,
        speed: torch.Tensor | None,
        unit: float,
        random: RandomStreams,
    ) -> None:
        super().__init__()
        self.chart = chart
        self.fields = Fields(chart, actions, sizes, unit=unit, random=random)
        dimension = chart.dimension
        even = chart.num_features + dimension * (dimension + 1) // 2 + actions
        self.reward_density = ScalarHead(even, sizes.hidden // 2)
        self.reward_form = nn.Linear(chart.num_features, dimension, bias=False)
        self.lag = nn.Parameter(torch.tensor(0.0))
        self.lead = nn.Parameter(torch.tensor(0.5))
        self.log_spread = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("speed", torch.full((dimension,), torch.inf) if speed is None else speed)
        self.bounded = speed is not None
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_scale", torch.ones(()))
        self.register_buffer("velocity_scale", torch.ones(dimension))
        generator = random.generator("reward weights")
        for part in (self.reward_density.first, self.reward_density.second, self.reward_form):
            drawn = torch.from_numpy(generator.standard_normal(tuple(part.weight.shape)))
            part.weight.data.copy_(drawn / part.in_features**0.5)
            if part.bias is not None:
                part.bias.data.zero_()
        self.reward_form.weight.data.zero_()
        drawn = torch.from_numpy(generator.standard_normal(len(self.reward_density.last)))
        self.reward_density.last.data.copy_(drawn / len(self.reward_density.last))

    @property
    def spread(self) -> torch.Tensor:
        """Standard deviation of a frame's end about its prediction, for its likelihood."""
        return self.fields.unit * self.log_spread.exp()

    def act(self, z: torch.Tensor) -> Acting:
        """Return what acts at points `[B, D]`."""
        u, _ = normal_coordinates(State(z, z))
        fields = self.fields
        turn = None if fields.field is None else fields.field(z)
        return Acting(*fields.forces(self.chart, u), turn, fields.friction)

    def begin(self, observation: torch.Tensor) -> State:
        """Return the state in which `[B, O]` is observed."""
        measured = self.chart.state(observation)
        return State(measured.z, measured.w + self.lag * self.act(measured.z).pull)

    def observe(self, state: State, pull: torch.Tensor) -> torch.Tensor:
        """Return what is observed of a state with the pull there, `[B, O]`."""
        return self.chart.observation(State(state.z, state.w - self.lag * pull))

    def forward(self, observation: torch.Tensor, actions: torch.Tensor) -> Path:
        """Return the path from `[B, O]` along actions `[B, H, A]`."""
        return self.roll(self.act, self.begin(observation), actions)

    def roll(self, forces: Forces, state: State, actions: torch.Tensor) -> Path:
        """Return the path from a state under forces, which need not be the model's own.

        The force of an action is that of the place where its frame begins.
        """
        now = forces(state.z)
        work, heat = torch.zeros_like(state.w[..., 0]), torch.zeros_like(state.w[..., 0])
        kept = [(state.z, state.w, now.pull, work, heat)]
        for action in actions.unbind(1):
            push = (now.drive @ action.unsqueeze(-1)).squeeze(-1)
            state, worked = _kicked(state, now.pull, push, self.lead)
            state, heated = self._carried(state, now)
            now = forces(state.z)
            if now.field is not None:
                state = rotate(state, now.field, 0.5)
            state, more = _kicked(state, now.pull, push, 1 - self.lead)
            state = self.chart.wrapped(state)
            work, heat = work + worked + more, heat + heated
            kept.append((state.z, state.w, now.pull, work, heat))
        z, w, pull, works, heats = (torch.stack(part, 1) for part in zip(*kept, strict=True))
        states = State(z, w)
        return Path(
            State(z[:, 1:], w[:, 1:]),
            self.observe(states, pull)[:, 1:],
            self.reward(states, pull, actions),
            self.energy(states),
            works[:, 1:],
            heats[:, 1:],
        )

    def _carried(self, state: State, now: Acting) -> tuple[State, torch.Tensor]:
        """Return the state after rotation, bound, flight and friction, and the heat that it took."""
        if now.field is not None:
            state = rotate(state, now.field, 0.5)
        before = state.kinetic_energy
        if self.bounded:
            state = self._bounded(state)
        # without noise, A O A stays on one geodesic: one flight, then the friction
        kept = torch.exp(-now.friction)
        state = _flown(State(state.z, state.w * ((1 + kept) / 2)))
        state = State(state.z, state.w * (2 * kept / (1 + kept)))
        return state, state.kinetic_energy - before

    def _bounded(self, state: State) -> State:
        limit = self.speed * self.chart.rate.abs() / self.chart.length
        return State(state.z, torch.maximum(torch.minimum(state.w, limit), -limit))

    def energy(self, state: State) -> torch.Tensor:
        """Return kinetic and potential energy together, `[B]`."""
        u, _ = normal_coordinates(state)
        energy: torch.Tensor = state.kinetic_energy + self.fields.potential(self.chart, u)
        return energy

    def reward(self, states: State, pull: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return `rho_r dt + <R, dz>` of each action: rho_r even in the measured velocity, R a one-form.

        Args:
            states: `[B, H + 1, D]`.
            pull: There.
            actions: `[B, H, A]`.
        """
        u, moving = normal_coordinates(states)
        x, _ = self.chart.features(u[:, :-1])
        speed = ((states.w - self.lag * pull) / self.velocity_scale)[:, :-1]
        size = range(speed.shape[-1])
        pairs = torch.stack([speed[..., i] * speed[..., j] for i in size for j in size if j <= i], -1)
        density = self.reward_density(torch.cat((x, pairs, actions), -1))
        # the velocity and not the difference of places, which jumps where an angle closes
        along = (self.reward_form(x) * moving[:, :-1]).sum(-1)
        reward: torch.Tensor = self.reward_mean + self.reward_scale * (density + along)
        return reward


def _kicked(
    state: State, pull: torch.Tensor, push: torch.Tensor, share: torch.Tensor
) -> tuple[State, torch.Tensor]:
    """Return the state after half the pull and a share of the push, and the push's work."""
    pushed = share * push
    kick = pull / 2 + pushed
    return State(state.z, state.w + kick), (pushed * (state.w + kick / 2)).sum(-1)


def _flown(state: State) -> State:
    """Return the state a frame of free flight later; in one dimension by its coordinate on the line."""
    if state.z.shape[-1] > 1:
        return drift(state, 1.0)
    return State(torch.tanh(torch.atanh(state.z) + state.w / 2), state.w)
