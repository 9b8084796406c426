"""A fixed chart from observations of a mechanical system into the ball, and back.

Each coordinate of the system is an angle, observed as cosine and sine, or a position, beside the velocity
that was measured of it. Coordinates divided by a length are normal coordinates u of the ball, `z =
exp_0(u)`: in one dimension an isometry of the line, in more one only near the origin. An angle that passes
pi comes back at -pi, which in one dimension is an isometry too, so that nothing of the dynamics changes
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import field, frozen
from torch import nn

from atlas.errors import BadInput
from atlas_worldmodel.massive_flight import massive_flight
from atlas_worldmodel.splitting import State, drift

__all__ = ["Coordinate", "ObservationChart", "coordinates_of"]


@frozen
class Coordinate:
    """Which numbers of an observation hold a coordinate.

    Attributes:
        velocity: Its rate of change, in any unit.
        position: The coordinate itself; None for an angle.
        cosine: Of an angle; None for a position.
        sine: Likewise.
    """

    velocity: int
    position: int | None = None
    cosine: int | None = None
    sine: int | None = None
    columns: tuple[int, ...] = field(init=False)

    @columns.default
    def _columns(self) -> tuple[int, ...]:
        return tuple(c for c in (self.position, self.cosine, self.sine, self.velocity) if c is not None)


def coordinates_of(given: Sequence[Mapping[str, int]], size: int) -> tuple[Coordinate, ...]:
    """Return coordinates from plain values, which together name each number of an observation once.

    Raises:
        BadInput: They do not.
    """
    found = tuple(Coordinate(**entry) for entry in given)
    for number, one in enumerate(found):
        if (one.position is None) == (one.cosine is None) or (one.cosine is None) != (one.sine is None):
            raise BadInput(
                "a coordinate is a position, or a cosine and a sine, with a velocity",
                where=f"coordinates.{number}",
            )
    named = sorted(column for one in found for column in one.columns)
    if named != list(range(size)):
        raise BadInput(
            f"the coordinates name the numbers {named} of an observation that has {size}",
            where="coordinates",
            fix="name each number once; numbers count from 0",
        )
    return found


class ObservationChart(nn.Module):
    """The chart, with the unit of time that observed velocities are in as its learned part.

    Args:
        coordinates: D of them.
        observations: What it is fitted to, `[N, T + 1, O]`.
    """

    center: torch.Tensor
    length: torch.Tensor
    closed: torch.Tensor

    def __init__(self, coordinates: Sequence[Coordinate], observations: torch.Tensor) -> None:
        super().__init__()
        self.coordinates = tuple(coordinates)
        self.angular = [one.cosine is not None for one in self.coordinates]
        size = len(self.coordinates)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("length", torch.ones(size))
        self.register_buffer("closed", torch.tensor([float(angular) for angular in self.angular]))
        self.rate = nn.Parameter(torch.ones(size))
        self._fit(observations)

    @property
    def dimension(self) -> int:
        """Of the ball, D."""
        return len(self.coordinates)

    @property
    def num_features(self) -> int:
        """Numbers that `features` gives."""
        return self.dimension + sum(self.angular)

    def _fit(self, observations: torch.Tensor) -> None:
        """Set centres, lengths and rates: the data lie within a radius of about one."""
        for i, one in enumerate(self.coordinates):
            q = self._raw(observations, one)
            step, mean = q.diff(dim=1), 0.0
            if one.cosine is None:
                mean, reach = float(q.mean()), float((q - q.mean()).abs().max())
            else:
                reach = torch.pi
                step = torch.remainder(step + torch.pi, 2 * torch.pi) - torch.pi
            self.center[i] = mean
            self.length[i] = max(reach, 1e-6) * self.dimension**0.5
            v = (observations[:, 1:, one.velocity] + observations[:, :-1, one.velocity]) / 2
            rate = (step * v).sum() / v.square().sum().clamp_min(1e-12)
            self.rate.data[i] = rate if float(rate.abs()) > _LEAST_RATE else 1.0

    @staticmethod
    def _raw(observations: torch.Tensor, one: Coordinate) -> torch.Tensor:
        if one.position is not None:
            return observations[..., one.position]
        return torch.atan2(observations[..., one.sine], observations[..., one.cosine])

    def state(self, observations: torch.Tensor) -> State:
        """Return points and measured velocities, per frame, of observations `[..., O]`."""
        q = torch.stack([self._raw(observations, one) for one in self.coordinates], -1)
        v = torch.stack([observations[..., one.velocity] for one in self.coordinates], -1)
        return embed((q - self.center) / self.length, v * self.rate / self.length)

    def observation(self, state: State) -> torch.Tensor:
        """Return what would be observed of states, `[..., O]`."""
        u, moving = normal_coordinates(state)
        q, v = u * self.length + self.center, moving * self.length / self.rate
        columns: dict[int, torch.Tensor] = {}
        for i, one in enumerate(self.coordinates):
            columns[one.velocity] = v[..., i]
            if one.position is not None:
                columns[one.position] = q[..., i]
            elif one.cosine is not None and one.sine is not None:
                columns[one.cosine], columns[one.sine] = q[..., i].cos(), q[..., i].sin()
        return torch.stack([columns[i] for i in range(len(columns))], -1)

    def flown(self, state: State, mass: torch.Tensor | None = None) -> State:
        """Return the states a frame of free flight later, with angles brought back to -pi .. pi.

        Args:
            state: Velocities in the orthonormal frame, of the masses' metric where there are masses.
            mass: Of each axis, `[D]`; None for none. In one dimension, where a mass is a unit, it is 1.
        """
        if self.dimension == 1:
            u, moving = normal_coordinates(state)
            return embed(u + moving - self._turns(u + moving), moving)
        if mass is None:
            state = drift(state, 1.0)
        else:  # by halves, as the step has it
            state = massive_flight(massive_flight(state, mass, 0.5), mass, 0.5)
        if not any(self.angular):
            return state
        root = 1.0 if mass is None else mass.sqrt()
        u, moving = normal_coordinates(State(state.z, state.w / root))
        turned = embed(u - self._turns(u), moving)
        return State(turned.z, turned.w * root)

    def beside(self, z: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Return points `z` with each angle turned round until it is nearest to that of other points."""
        if not any(self.angular):
            return z
        (u, _), (v, _) = normal_coordinates(State(z, z)), normal_coordinates(State(points, points))
        return embed(u - self._turns(u - v), u).z

    def _turns(self, u: torch.Tensor) -> torch.Tensor:
        """Return what whole turns there are in normal coordinates of angles, and 0 for positions."""
        period = 2 * torch.pi / self.length
        return torch.round(u.detach() / period) * (period * self.closed)

    def features(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return functions of normal coordinates `[..., D]`, periodic in angles, and their derivatives.

        Returns:
            Features `[..., F]`, and `[..., F]` the derivative of each by the coordinate it is of.
        """
        values, slopes = [], []
        for i, angular in enumerate(self.angular):
            if angular:
                q = u[..., i] * self.length[i]
                c, s = q.cos(), q.sin()
                values += [c, s]
                slopes += [-s * self.length[i], c * self.length[i]]
            else:
                values.append(u[..., i])
                slopes.append(torch.ones_like(u[..., i]))
        return torch.stack(values, -1), torch.stack(slopes, -1)

    def bends(self) -> torch.Tensor:
        """Return the second derivative of each feature by its coordinate, by the feature itself, `[F]`."""
        return torch.stack([-(self.length[i] ** 2) * self.closed[i] for i, _ in self._of_features()])

    def spread(self, by_coordinate: torch.Tensor) -> torch.Tensor:
        """Return what belongs to each coordinate `[..., D]` for each feature of it, `[..., F]`."""
        return torch.cat([by_coordinate[..., i : i + 1] for i, _ in self._of_features()], -1)

    def _of_features(self) -> list[tuple[int, bool]]:
        """Return the coordinate of each feature, and whether it is an angle."""
        return [(i, angular) for i, angular in enumerate(self.angular) for _ in range(2 if angular else 1)]

    def gather(self, by_feature: torch.Tensor) -> torch.Tensor:
        """Sum what belongs to each feature `[..., F]` over the features of each coordinate, `[..., D]`."""
        found, at = [], 0
        for angular in self.angular:
            width = 2 if angular else 1
            found.append(by_feature[..., at : at + width].sum(-1))
            at += width
        return torch.stack(found, -1)


def embed(u: torch.Tensor, moving: torch.Tensor) -> State:
    """Return the states at normal coordinates `[..., D]` with their rates of change.

    `z = tanh(r / 2) u / r` for `r = |u|`; along u the length is kept, across it is stretched by `sinh r / r`.
    """
    if u.shape[-1] == 1:
        return State(torch.tanh(u / 2), moving)
    r = u.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    direction = u / r
    z = torch.tanh(r / 2) * direction
    along = (moving * direction).sum(-1, keepdim=True) * direction
    return State(z, along + torch.sinh(r) / r * (moving - along))


def normal_coordinates(state: State) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `u = log_0(z)` and its rate of change: the inverse of `embed`."""
    if state.z.shape[-1] == 1:
        return 2 * torch.atanh(state.z), state.w
    norm = state.z.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    direction = state.z / norm
    r = 2 * torch.atanh(norm)
    u = r * direction
    along = (state.w * direction).sum(-1, keepdim=True) * direction
    return u, along + r / torch.sinh(r) * (state.w - along)


def in_frame(u: torch.Tensor, covector: torch.Tensor) -> torch.Tensor:
    """Return a covector of normal coordinates in the orthonormal frame, `[..., D]`."""
    if u.shape[-1] == 1:
        return covector
    r = u.square().sum(-1, keepdim=True).clamp_min(_TINY).sqrt()
    direction = u / r
    along = (covector * direction).sum(-1, keepdim=True) * direction
    return along + r / torch.sinh(r) * (covector - along)


_LEAST_RATE = 1e-6
"""Below it the data do not say how a coordinate follows its velocity, and training begins with 1."""

_TINY = 1e-18
"""Of a squared length; small enough that a float32 path through the origin does not notice."""


def chart_facts(chart: ObservationChart) -> list[dict[str, Any]]:
    """Return the coordinates as plain values."""
    names = ("position", "cosine", "sine", "velocity")
    return [
        {name: getattr(one, name) for name in names if getattr(one, name) is not None}
        for one in chart.coordinates
    ]
