"""The learned world in an encoder's ball: mechanics in a medium that streams.

A frame that shows velocities is a whole state, and so is its point: where it lies says where it goes,
whatever its velocity was. Forces alone say so only along the one velocity that fits each place, and never
forget an error of that. Friction forgets it, where it is friction against something that moves itself: a
medium, whose stream u(z) carries points along. In a frame a state (z, w) passes

    O   w <- u + exp(-friction) (w - u)
    B   w <- w + pull / 2 + push of the action
    R   half a turn by the field,  A  free flight,  R  half a turn,  B  w <- w + pull / 2.

Without friction this is the step of `WorldModel` with an action's impulse before the flight; where friction
is great, points follow the stream and what acts there, a law of first order. Friction is learned, and with
it which of the two it is. Forces stay gradients of the potential: what the medium gives is booked as heat.
"""

from __future__ import annotations

import math

import torch
from atlas_topoencoder.geometry import project
from torch import nn
from torch.nn import functional

from atlas.randomness import RandomStreams
from atlas_worldmodel.fields import FieldSizes, draw_heads
from atlas_worldmodel.frames import Acting, pushed
from atlas_worldmodel.model import Forces, Path, WorldModel
from atlas_worldmodel.observation_chart import ObservationChart, normal_coordinates
from atlas_worldmodel.splitting import State, rotate

__all__ = ["EncodedWorld", "StreamHead"]


class StreamHead(nn.Module):
    """Velocity of the medium at each place: `W_3 silu(W_2 silu(W_1 u + b_1) + b_2) + b_3`.

    Args:
        dimension: D.
        hidden: Width.
    """

    def __init__(self, dimension: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dimension, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, dimension)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Return the velocities at normal coordinates `[..., D]`, in units of a usual one."""
        found: torch.Tensor = self.last(functional.silu(self.second(functional.silu(self.first(u)))))
        return found


class EncodedWorld(WorldModel):
    """A mechanical system in a medium that streams, wherever a `WorldModel` is asked for.

    Args:
        chart: Of the observations, the ball itself.
        actions: A.
        sizes: Widths of the heads.
        stream: Width of the stream's network.
        unit: Typical change of a velocity in a frame.
        random: Streams that the initial weights are drawn from.
    """

    def __init__(
        self,
        chart: ObservationChart,
        actions: int,
        sizes: FieldSizes,
        *,
        stream: int,
        unit: float,
        random: RandomStreams,
    ) -> None:
        super().__init__(chart, actions, sizes, speed=None, unit=unit, random=random)
        self.medium = StreamHead(chart.dimension, stream)
        draw_heads(self.medium, random, "stream weights")
        self.medium.last.weight.data.mul_(_SMALL)
        self.fields.rubbing.data.fill_(math.sqrt(_FRICTION / 0.01))
        # an observed velocity is that of the flight, half a kick before the state's
        for parameter, value in ((self.lag, 0.5), (self.lead, 1.0)):
            parameter.data.fill_(value)
            parameter.requires_grad_(False)

    def stream(self, z: torch.Tensor) -> torch.Tensor:
        """Return the medium's velocity at points `[..., D]`, in the orthonormal frame."""
        u, _ = normal_coordinates(State(z, z))
        velocity: torch.Tensor = self.velocity_scale * self.medium(u)
        return velocity

    def begin(self, observation: torch.Tensor) -> State:
        """Return the state in which `[B, O]` is observed."""
        measured = self.chart.state(observation)
        return _kicked(measured, self.act(measured.z))

    def observe(self, state: State, acting: Acting) -> torch.Tensor:
        """Return what is observed of a state with what acts there, `[B, O]`: the inverse of `begin`."""
        return self.chart.observation(_unkicked(state, acting))

    def forward(self, observation: torch.Tensor, actions: torch.Tensor) -> Path:
        """Return the path from `[B, O]` along actions `[B, H, A]`."""
        return self.roll(self.act, self.begin(observation), actions)

    def roll(self, forces: Forces, state: State, actions: torch.Tensor) -> Path:
        """Return the path from a state under forces, which need not be the model's own, in its medium."""
        now, kept = forces(state.z), torch.exp(-self.fields.friction)
        passed, works, heats = [(*state, now.pull, now.potential)], [], []
        arriving, flights, seen = [_unkicked(state, now).w], [], []
        for action in actions.unbind(1):
            stream, push = self.stream(state.z), pushed(now, action)
            carried = stream + kept * (state.w - stream)
            kick = now.pull / 2 + push
            heats.append((carried.square() - state.w.square()).sum(-1) / 2)
            # a constant force does work along the mean of the velocities; a turn does none
            works.append((push * (carried + kick / 2)).sum(-1))
            flights.append(_turned(State(state.z, carried + kick), now))
            flown = self.chart.flown(flights[-1])
            flown = State(project(flown.z, _EDGE), flown.w)
            seen.append(self.chart.observation(flown))
            arriving.append(flown.w)
            now = forces(flown.z)
            state = _kicked(flown, now)
            passed.append((*state, now.pull, now.potential))
        z, w, pull, potential = (torch.stack(part, 1) for part in zip(*passed, strict=True))
        states, moving = State(z, w), State(*(torch.stack(part, 1) for part in zip(*flights, strict=True)))
        return Path(
            State(z[:, 1:], w[:, 1:]),
            pull[:, 1:],
            torch.stack(seen, 1),
            self.reward(moving, torch.stack(arriving[:-1], 1), actions),
            states.kinetic_energy + potential,
            torch.stack(works, 1).cumsum(1),
            torch.stack(heats, 1).cumsum(1),
        )


_FRICTION = 3.0
"""Against the medium when training begins, a frame: near the first order, and able to leave it."""

_EDGE = 6.0
"""Hyperbolic radius onto which points are put back that leave it: what float32 bears."""

_SMALL = 0.1
"""Of the last weights, so that the medium begins nearly at rest."""


def _turned(state: State, acting: Acting) -> State:
    return state if acting.field is None else rotate(state, acting.field, 0.5)


def _kicked(flown: State, acting: Acting) -> State:
    """Return the states where the forces at their places have done their half of a frame."""
    state = _turned(flown, acting)
    return State(state.z, state.w + acting.pull / 2)


def _unkicked(state: State, acting: Acting) -> State:
    """Return the states before that half: the inverse of `_kicked`."""
    before = State(state.z, state.w - acting.pull / 2)
    return before if acting.field is None else rotate(before, -acting.field, 0.5)
