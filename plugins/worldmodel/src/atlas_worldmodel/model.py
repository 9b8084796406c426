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
from atlas_worldmodel.fields import Fields, FieldSizes, Heads, ScalarHead, linear_field
from atlas_worldmodel.frames import Acting, Constants, Departed, arrived, departed, pushed
from atlas_worldmodel.head_tape import HeadTape, packed, unpacked
from atlas_worldmodel.observation_chart import ObservationChart, normal_coordinates
from atlas_worldmodel.splitting import State
from atlas_worldmodel.step_chain import Steps, chained

__all__ = ["Forces", "Path", "WorldModel"]


Forces = Callable[[torch.Tensor], Acting]
"""Maps points `[B, D]` to what acts there."""


class Path(NamedTuple):
    """Where actions lead from a first observation.

    Attributes:
        states: Points and velocities after each action, `[B, H, D]`.
        pull: Conservative force there, `[B, H, D]`.
        observations: `[B, H, O]`.
        rewards: `[B, H]`.
        energies: Kinetic and potential, the first state's before them, `[B, H + 1]`.
        work: Of the action since the beginning, `[B, H]`.
        heat: Given by friction and by the bound on velocities since the beginning, `[B, H]`; negative, but
            where friction is against a medium that moves.
    """

    states: State
    pull: torch.Tensor
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
        masses: Whether each axis has a mass, which `weigh` sets; a state's velocities are then those of the
            orthonormal frame of the masses' metric (`massive_flight`), and so are forces.
    """

    speed: torch.Tensor
    mass: torch.Tensor | None
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
        masses: bool = False,
    ) -> None:
        super().__init__()
        self.chart = chart
        self.register_buffer("mass", torch.ones(chart.dimension) if masses else None)
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

    def weigh(self, mass: torch.Tensor) -> None:
        """Set the masses `[D]`, if there are any; their mean becomes 1."""
        if self.mass is not None:
            self.mass.copy_(mass / mass.mean())

    def act(self, z: torch.Tensor) -> Acting:
        """Return what acts at points `[B, D]`."""
        u, _ = normal_coordinates(State(z, z))
        return self._acting(u, self.fields.heads(self.chart, u), self._turn(z))

    def _turn(self, z: torch.Tensor) -> torch.Tensor | None:
        return None if self.fields.field is None else self.fields.field(z)

    def _acting(self, u: torch.Tensor, said: Heads, turn: torch.Tensor | None) -> Acting:
        """Return what acts at normal coordinates, where the networks say that and the field is `turn`."""
        pull, drive = self.fields.forces(u, said)
        if self.mass is not None:
            share = self.mass.rsqrt()
            pull, drive = pull * share, drive * share.unsqueeze(-1)
            turn = None if turn is None else turn * share * share.unsqueeze(-1)
        return Acting(pull, drive, turn, self.fields.energies(u, said.value))

    def _state(self, measured: State, pull: torch.Tensor) -> State:
        """Return the states of measured velocities, with the pull there."""
        w = measured.w if self.mass is None else measured.w * self.mass.sqrt()
        return State(measured.z, w + self.lag * pull)

    def _measured(self, states: State, pull: torch.Tensor) -> torch.Tensor:
        """Return the measured velocities of states: the inverse of `_state`."""
        return self._plain(states.w - self.lag * pull)

    def _plain(self, w: torch.Tensor) -> torch.Tensor:
        """Return velocities in the frame that knows no masses."""
        return w if self.mass is None else w * self.mass.rsqrt()

    def begin(self, observation: torch.Tensor) -> State:
        """Return the state in which `[B, O]` is observed."""
        measured = self.chart.state(observation)
        return self._state(measured, self.act(measured.z).pull)

    def observe(self, state: State, acting: Acting) -> torch.Tensor:
        """Return what is observed of a state with what acts there, `[B, O]`: the inverse of `begin`."""
        return self.chart.observation(State(state.z, self._measured(state, acting.pull)))

    def forward(self, observation: torch.Tensor, actions: torch.Tensor) -> Path:
        """Return the path from `[B, O]` along actions `[B, H, A]`.

        Its gradient is that of `roll`, but can itself not be differentiated: the frames pass one after the
        other without a graph, and get theirs all together where they were.
        """
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return self.roll(self.act, self.begin(observation), actions)
        tape, said = HeadTape(self.fields, self.chart), []

        def forces(z: torch.Tensor) -> Acting:
            u, _ = normal_coordinates(State(z, z))
            said.append(tape(u))
            return self._acting(u, said[-1], self._turn(z))

        with torch.no_grad():
            measured, constants = self.chart.state(observation), self._constants()
            now = forces(measured.z)
            state = self._state(measured, now.pull)
            passed = [state]
            for action in actions.unbind(1):
                push = pushed(now, action)
                flown = departed(self.chart, state, now, push, constants).state
                now = forces(flown.z)
                state = arrived(flown, now, push, constants)
                passed.append(state)
            states = torch.cat([torch.stack(part, 1) for part in zip(*passed, strict=True)], -1)
            rows = packed(Heads(*(torch.stack(part, 1) for part in zip(*said, strict=True))))
        return self._chained(tape, observation, actions, states, rows)

    def _chained(
        self,
        tape: HeadTape,
        observation: torch.Tensor,
        actions: torch.Tensor,
        passed: torch.Tensor,
        rows: torch.Tensor,
    ) -> Path:
        """Return the path with its gradient, of which all values are known.

        Args:
            tape: Of the networks at each state.
            observation: `[B, O]`.
            actions: `[B, H, A]`.
            passed: Points and velocities, `[B, H + 1, 2 D]`.
            rows: What the networks said, packed, `[B, H + 1, P]`.
        """
        size, constants = self.chart.dimension, self._constants()

        field = None
        if self.fields.field is not None:
            field = linear_field(self.fields.field, passed[..., :size])
        before, after = slice(None, -1), slice(1, None)

        def acting(z: torch.Tensor, said: torch.Tensor, at: slice | int) -> Acting:
            u, _ = normal_coordinates(State(z, z))
            return self._acting(u, unpacked(said, size), None if field is None else field(z, at))

        known = (passed[:, before], rows[:, before], rows)
        left, said_left, said = (part.detach().requires_grad_() for part in known)
        state = State(left[..., :size], left[..., size:])
        now = acting(state.z, said_left, before)
        push = pushed(now, actions)
        flown = departed(self.chart, state, now, push, constants).state
        end = arrived(flown, acting(flown.z, said[:, after], after), push, constants)
        measured = self.chart.state(observation)
        first = self._state(measured, acting(measured.z, said[:, 0], 0).pull)
        z = torch.cat((measured.z.unsqueeze(1), flown.z), 1)
        places, _ = normal_coordinates(State(z, z))
        reached = torch.cat((torch.cat(first, -1).unsqueeze(1), torch.cat(end, -1)), 1)
        found, rows = chained(tape, Steps(left, said_left, said, places, reached))
        states = State(found[..., :size], found[..., size:])
        state = State(states.z[:, before], states.w[:, before])
        now = acting(state.z, rows[:, before], before)
        push = pushed(now, actions)
        flights = departed(self.chart, state, now, push, constants)
        return self._path(states, flights, acting(states.z, rows, slice(None)), push, actions)

    def roll(self, forces: Forces, state: State, actions: torch.Tensor) -> Path:
        """Return the path from a state under forces, which need not be the model's own.

        The force of an action is that of the place where its frame begins.
        """
        now, constants = forces(state.z), self._constants()
        kept, pushes, flights = [(*state, now.pull, now.potential)], [], []
        for action in actions.unbind(1):
            pushes.append(pushed(now, action))
            flown, launched = departed(self.chart, state, now, pushes[-1], constants)
            flights.append((*flown, launched))
            now = forces(flown.z)
            state = arrived(flown, now, pushes[-1], constants)
            kept.append((*state, now.pull, now.potential))
        z, w, pull, potential = (torch.stack(part, 1) for part in zip(*kept, strict=True))
        there, slowed, launched = (torch.stack(part, 1) for part in zip(*flights, strict=True))
        departures = Departed(State(there, slowed), launched)
        acting = Acting(pull, now.drive, None, potential)
        return self._path(State(z, w), departures, acting, torch.stack(pushes, 1), actions)

    def _path(
        self, states: State, flights: Departed, acting: Acting, push: torch.Tensor, actions: torch.Tensor
    ) -> Path:
        """Return the path of states.

        Args:
            states: `[B, H + 1, D]`.
            flights: Between them, `[B, H, D]`.
            acting: Pull and potential at the states.
            push: Force of each action, `[B, H, D]`.
            actions: `[B, H, A]`.
        """
        pull, shares = acting.pull, (self.lead * push, (1 - self.lead) * push)
        before, after = states.w[:, :-1], states.w[:, 1:]
        kicks = [near / 2 + share for near, share in zip((pull[:, :-1], pull[:, 1:]), shares, strict=True)]
        # a constant force does work along the mean of the velocities; a rotation does none
        work = (shares[0] * (before + kicks[0] / 2) + shares[1] * (after - kicks[1] / 2)).sum(-1)
        # a rotation keeps a velocity's length; a flight with masses does so only nearly, and is not counted
        flown = flights.state.w.square() * (1 - self._constants().slowed ** -2)
        heat = (flights.launched.square() - (before + kicks[0]).square() + flown).sum(-1) / 2
        measured, moving = self._measured(states, pull)[:, :-1], self._plain(before)
        return Path(
            State(states.z[:, 1:], after),
            pull[:, 1:],
            self.observe(states, acting)[:, 1:],
            self.reward(State(states.z[:, :-1], moving), measured, actions),
            states.kinetic_energy + acting.potential,
            work.cumsum(1),
            heat.cumsum(1),
        )

    def _constants(self) -> Constants:
        limit = self.speed * self.chart.rate.abs() / self.chart.length if self.bounded else None
        if limit is not None and self.mass is not None:
            limit = limit * self.mass.sqrt()
        kept = torch.exp(-self.fields.friction)
        return Constants(self.lead, (1 + kept) / 2, 2 * kept / (1 + kept), limit, self.mass)

    def energy(self, state: State) -> torch.Tensor:
        """Return kinetic and potential energy together, `[B]`."""
        u, _ = normal_coordinates(state)
        energy: torch.Tensor = state.kinetic_energy + self.fields.potential(self.chart, u)
        return energy

    def reward(self, moving: State, measured: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return `rho_r dt + <R, dz>` of each action: rho_r even in the measured velocity, R a one-form.

        Args:
            moving: Where frames begin, and the velocities at which they lead on, `[B, H, D]`.
            measured: Velocities that are measured there, `[B, H, D]`.
            actions: `[B, H, A]`.
        """
        u, ahead = normal_coordinates(moving)
        x, _ = self.chart.features(u)
        speed = measured / self.velocity_scale
        size = range(speed.shape[-1])
        pairs = torch.stack([speed[..., i] * speed[..., j] for i in size for j in size if j <= i], -1)
        density = self.reward_density(torch.cat((x, pairs, actions), -1))
        # the velocity and not the difference of places, which jumps where an angle closes
        along = (self.reward_form(x) * ahead).sum(-1)
        reward: torch.Tensor = self.reward_mean + self.reward_scale * (density + along)
        return reward
