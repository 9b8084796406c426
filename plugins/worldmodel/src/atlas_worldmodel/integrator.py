"""A step of Langevin dynamics on the Poincaré ball: B R A O A R B, and a fourth-order composition.

The parts are in `splitting`. The step is symmetric in time and preserves volume; with a field that is not
constant it is not symplectic (Hairer and Lubich 2018, "Energy behaviour of the Boris method for
charged-particle dynamics"), so that the energy is watched and never promised. Kick and rotation at the end
of a step and at the beginning of the next are at the same point: forces are computed once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from attrs import evolve, frozen

from atlas.errors import BadInput
from atlas_worldmodel.massive_flight import massive_flight
from atlas_worldmodel.potentials import Potential, gradient
from atlas_worldmodel.splitting import State, drift, kick, rotate, thermostat
from atlas_worldmodel.twoforms import TwoForm

__all__ = ["Dynamics", "Exchange", "Moment", "begin", "fourth_order_step", "simulate", "step"]

_SUZUKI = 1 / (4 - 4 ** (1 / 3))
"""Suzuki 1990, "Fractal decomposition of exponential operators": stages p, p, 1 - 4 p, p, p."""

Force = Callable[[torch.Tensor], torch.Tensor]
"""Maps points `[..., D]` to covectors `[..., D]`."""


@frozen
class Dynamics:
    """What acts on the particles.

    Attributes:
        potential: Its negative gradient is a force; None for none.
        field: A closed two-form that turns velocities; None for none.
        policy: A further covector force, which does work; None for none.
        friction: Rate at which velocities are forgotten, per unit of time.
        temperature: Of the thermostat that friction couples to, in units of energy.
        differentiable: Whether a path can be differentiated by the potential's parameters, for training.
        mass: Of each axis, `[D]`, positive: velocities are then those of the orthonormal frame of the metric
            `lambda^2 diag(mass)`, and flight is right to second order instead of exact. None where all are 1.

    Raises:
        BadInput: Friction or temperature is negative, or a mass is not positive.
    """

    potential: Potential | None = None
    field: TwoForm | None = None
    policy: Force | None = None
    friction: float = 0.0
    temperature: float = 0.0
    differentiable: bool = False
    mass: torch.Tensor | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what no thermostat does."""
        for name, value in (("friction", self.friction), ("temperature", self.temperature)):
            if not value >= 0:
                raise BadInput(f"{name} is {value:g}", fix="give a number that is not negative")
        if self.mass is not None and not bool((torch.isfinite(self.mass) & (self.mass > 0)).all()):
            raise BadInput(
                f"the masses are {self.mass.tolist()}", where="mass", fix="give positive numbers, one an axis"
            )

    def reversed(self) -> Dynamics:
        """Return the dynamics by which a reversed state runs back: the field has the other sign."""
        field = self.field
        return self if field is None else evolve(self, field=lambda z: -field(z))

    def flight(self, state: State, time: float) -> State:
        """Return the state after free flight."""
        return drift(state, time) if self.mass is None else massive_flight(state, self.mass, time)

    def energy(self, state: State) -> torch.Tensor:
        """Return kinetic and potential energy together, `[...]`."""
        kinetic = state.kinetic_energy
        return kinetic if self.potential is None else kinetic + self.potential(state.z)


class Exchange(NamedTuple):
    """Energy that came in since the beginning, `[...]`: the policy's work, and heat of the thermostat.

    What the energy changes beyond their sum is the integrator's error.
    """

    work: torch.Tensor
    heat: torch.Tensor


class Moment(NamedTuple):
    """A state with what acts there, so that the next step need not compute it again.

    Under masses, what acts is divided by the root of the mass of each of its axes.

    Attributes:
        state: Points and velocities.
        pull: `-d potential`, a covector `[..., D]`; None without a potential.
        push: The policy's covector; None without one.
        field: The two-form, `[..., D, D]`; None without one.
        exchange: Work and heat so far.
    """

    state: State
    pull: torch.Tensor | None
    push: torch.Tensor | None
    field: torch.Tensor | None
    exchange: Exchange


def begin(dynamics: Dynamics, state: State, exchange: Exchange | None = None) -> Moment:
    """Return a state with what acts there."""
    z = state.z
    zero = torch.zeros_like(state.kinetic_energy)
    pull = push = field = None
    if dynamics.potential is not None:
        pull = -gradient(dynamics.potential, z, graph=dynamics.differentiable)
    if dynamics.policy is not None:
        push = dynamics.policy(z)
    if dynamics.field is not None:
        field = dynamics.field(z)
    if dynamics.mass is not None:
        share = dynamics.mass.rsqrt()
        pull, push = (None if force is None else force * share for force in (pull, push))
        field = None if field is None else field * share * share.unsqueeze(-1)
    return Moment(state, pull, push, field, exchange or Exchange(zero, zero))


def step(dynamics: Dynamics, moment: Moment, time: float, noise: torch.Tensor | None = None) -> Moment:
    """Return the moment one step later: B R A O A R B.

    Args:
        dynamics: What acts.
        moment: Where the particles are.
        time: Length of the step.
        noise: Standard normal numbers `[..., D]`; needed with friction at a temperature.

    Raises:
        BadInput: The dynamics has a temperature and no noise is given.
    """
    half = time / 2
    state, work = _kicked(moment, half)
    if moment.field is not None:
        state = rotate(state, moment.field, half)
    state = dynamics.flight(state, half)
    heat = moment.exchange.heat
    if dynamics.friction > 0:
        before = state.kinetic_energy
        state = thermostat(
            state,
            _required(dynamics, state, noise),
            time,
            friction=dynamics.friction,
            temperature=dynamics.temperature,
        )
        heat = heat + state.kinetic_energy - before
    state = dynamics.flight(state, half)
    after = begin(dynamics, state, Exchange(moment.exchange.work + work, heat))
    if after.field is not None:
        state = rotate(state, after.field, half)
    state, work = _kicked(after._replace(state=state), half)
    exchange = Exchange(after.exchange.work + work, heat)
    return after._replace(state=state, exchange=exchange)


def _kicked(moment: Moment, time: float) -> tuple[State, torch.Tensor | float]:
    """Return the state after the kick, and the policy's share of the kinetic energy that it brought."""
    parts = [force for force in (moment.pull, moment.push) if force is not None]
    if not parts:
        return moment.state, 0.0
    kicked = kick(moment.state, parts[0] if len(parts) == 1 else parts[0] + parts[1], time)
    if moment.push is None:
        return kicked, 0.0
    shrink = 1 - moment.state.z.square().sum(-1)
    middle = (moment.state.w + kicked.w) / 2
    return kicked, time / 2 * shrink * (moment.push * middle).sum(-1)


def _required(dynamics: Dynamics, state: State, noise: torch.Tensor | None) -> torch.Tensor:
    if noise is not None:
        return noise
    if dynamics.temperature > 0:
        raise BadInput(
            f"friction at temperature {dynamics.temperature:g} needs random numbers",
            fix="give standard normal `noise`, or a `generator` to `simulate`",
        )
    return torch.zeros_like(state.w)


def fourth_order_step(dynamics: Dynamics, moment: Moment, time: float) -> Moment:
    """Return the moment one step later, by five steps of which the third runs back.

    Raises:
        BadInput: The dynamics has friction, which cannot run back.
    """
    if dynamics.friction > 0:
        raise BadInput(
            f"a friction of {dynamics.friction:g} cannot run back, as a step of fourth order does",
            fix="take `step`, or dynamics without friction",
        )
    for share in (_SUZUKI, _SUZUKI, 1 - 4 * _SUZUKI, _SUZUKI, _SUZUKI):
        moment = step(dynamics, moment, share * time)
    return moment


def simulate(
    dynamics: Dynamics,
    state: State,
    *,
    time: float,
    steps: int,
    every: int = 1,
    order: int = 2,
    generator: torch.Generator | None = None,
) -> Iterator[Moment]:
    """Yield the moments of a path, the first one included.

    Args:
        dynamics: What acts.
        state: Points and velocities to begin with, `[..., D]`.
        time: Length of a step.
        steps: How many.
        every: After how many steps a moment is yielded.
        order: 2, or 4 without friction.
        generator: Source of the thermostat's noise, on the state's device.

    Raises:
        BadInput: The order is not offered, or a temperature has no generator.
        FloatingPointError: A state is no longer finite; the message says since which step.
    """
    if order not in (2, 4):
        raise BadInput(f"there is no step of order {order}", fix="take order 2 or 4")
    moment = begin(dynamics, state)
    yield moment
    for number in range(1, steps + 1):
        if order == 4:
            moment = fourth_order_step(dynamics, moment, time)
        else:
            noise = None
            if generator is not None and dynamics.friction > 0:
                w = moment.state.w
                noise = torch.randn(w.shape, generator=generator, dtype=w.dtype, device=w.device)
            moment = step(dynamics, moment, time, noise)
        if number % every == 0:
            if not _inside(moment.state):
                raise FloatingPointError(
                    f"a particle reached the ball's edge, or a momentum without end, by step {number} of "
                    f"{time:g}: take a shorter step, or a barrier"
                )
            yield moment


def _inside(state: State) -> bool:
    """Say whether all points are where their type resolves the ball, with velocities that are numbers."""
    edge = 64 * torch.finfo(state.z.dtype).eps
    return bool((1 - state.z.square().sum(-1) > edge).all() & torch.isfinite(state.w).all())
