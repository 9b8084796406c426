"""Learned heads for what acts on a world: value, outward potential, barrier, closed field, drive, friction.

Every force that is called conservative is minus the gradient of `potential`, in closed form from the layers
of the networks, so that a step needs no second graph; a test compares it with autograd. The field is `dA`
of a learned one-form, closed in any dimension.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from atlas.randomness import RandomStreams
from atlas_worldmodel.observation_chart import ObservationChart, in_frame

__all__ = [
    "DriveHead",
    "FieldHead",
    "FieldSizes",
    "Fields",
    "Heads",
    "LinearField",
    "ScalarHead",
    "draw_heads",
    "linear_field",
]


class Heads(NamedTuple):
    """What the networks say of places, in units of `Fields.unit`.

    Attributes:
        value: V, `[...]`.
        slope: Its gradient by normal coordinates, `[..., D]`.
        drive: Force of a unit of each action, `[..., D, A]`.
    """

    value: torch.Tensor
    slope: torch.Tensor
    drive: torch.Tensor


class ScalarHead(nn.Module):
    """A scalar of features, with its gradient: `v . tanh(W_2 tanh(W_1 x + b_1) + b_2)`.

    Args:
        features: F.
        hidden: Width.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scalar of features `[..., F]`, `[...]`."""
        # tanh t = 2 sigmoid(2 t) - 1, the 2 and the 1 in the weights: torch's tanh takes ten times as long
        first, second = self.first, self.second
        one = torch.sigmoid(functional.linear(x, 2 * first.weight, 2 * first.bias))
        bias = 2 * (second.bias - second.weight.sum(-1))
        two = torch.sigmoid(functional.linear(one, 4 * second.weight, bias))
        return 2 * (two @ self.last) - self.last.sum()

    def with_gradient(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scalar, `[...]`, and its gradient by the features, `[..., F]`."""
        one = torch.tanh(self.first(x))
        two = torch.tanh(self.second(one))
        back = (self.last * (1 - two * two)) @ self.second.weight
        return two @ self.last, (back * (1 - one * one)) @ self.first.weight


class FieldHead(nn.Module):
    """`F = dA` of `A(z) = W_2 tanh(W_1 z + b)`, a one-form in coordinates of the ball.

    Args:
        dimension: D.
        hidden: Width.
    """

    def __init__(self, dimension: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dimension, hidden), nn.Linear(hidden, dimension, bias=False)

    def one_form(self, z: torch.Tensor) -> torch.Tensor:
        """Return A at points `[..., D]`."""
        found: torch.Tensor = self.second(torch.tanh(self.first(z)))
        return found

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return `F[i, j] = d_i A_j - d_j A_i` at points `[..., D]`, `[..., D, D]`."""
        bend = 1 - torch.tanh(self.first(z)).square()
        slope = (self.second.weight * bend.unsqueeze(-2)) @ self.first.weight  # [..., j, i] = d A_j / d z_i
        return slope.mT - slope


class LinearField(NamedTuple):
    """A field at known points, and how it changes about them; a map of points.

    Attributes:
        values: With the gradient by the head's parameters, `[B, T, D, D]`.
        slopes: By the point, `[B, T, D, D, D]`.
    """

    values: torch.Tensor
    slopes: torch.Tensor

    def __call__(self, z: torch.Tensor, steps: slice | int = slice(None)) -> torch.Tensor:
        """Return the field at points that are some of those T, and move with a graph."""
        move = z - z.detach()  # zero, with a gradient
        return self.values[:, steps] + (self.slopes[:, steps] * move[..., None, None, :]).sum(-1)


def linear_field(field: FieldHead, z: torch.Tensor) -> LinearField:
    """Return the field at points `[B, T, D]`, exact in value and in first derivatives."""
    z = z.detach().requires_grad_()
    values = field(z)
    slopes = torch.zeros(*z.shape, z.shape[-1], z.shape[-1], dtype=z.dtype, device=z.device)
    for i in range(z.shape[-1]):
        for j in range(i):
            (by,) = torch.autograd.grad(values[..., i, j].sum(), z, retain_graph=True)
            slopes[..., i, j, :], slopes[..., j, i, :] = by, -by
    return LinearField(values, slopes)


class DriveHead(nn.Module):
    """What a unit of each action pushes with, in the orthonormal frame, by the place.

    Forces are linear in actions, as a motor's are, and vanish without one: what acts then is the potential's
    and the field's. For choices, one number each, linear is general.

    Args:
        features: F.
        actions: A.
        dimension: D.
        hidden: Width of the network.
    """

    def __init__(self, features: int, actions: int, dimension: int, hidden: int) -> None:
        super().__init__()
        self.shape = (dimension, actions)
        self.first, self.second = nn.Linear(features, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, dimension * actions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the forces of unit actions at features `[..., F]`, `[..., D, A]`."""
        found: torch.Tensor = self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return found.reshape(*found.shape[:-1], *self.shape)


class FieldSizes(NamedTuple):
    """Widths of the heads.

    Attributes:
        hidden: Of value and drive.
        field: Of the one-form; 0 for no field. One dimension has none.
    """

    hidden: int = 128
    field: int = 0


class Fields(nn.Module):
    """What acts at a point of the ball, in units of the data.

    The potential is `-V + U + B`. On coordinates that close, as angles do, there is no outside: U and B are
    left out where the chart has an angle.

    Args:
        chart: Whose features the heads read.
        actions: A.
        sizes: Widths.
        unit: Typical change of a velocity in a frame.
        random: Streams that the initial weights are drawn from.
    """

    unit: torch.Tensor

    def __init__(
        self,
        chart: ObservationChart,
        actions: int,
        sizes: FieldSizes,
        *,
        unit: float,
        random: RandomStreams,
    ) -> None:
        super().__init__()
        features, dimension = chart.num_features, chart.dimension
        self.value = ScalarHead(features, sizes.hidden)
        self.drive = DriveHead(features, actions, dimension, sizes.hidden)
        self.field = FieldHead(dimension, sizes.field) if sizes.field and dimension > 1 else None
        self.open = not any(chart.angular)
        self.outward = nn.Parameter(torch.tensor(-4.0))
        self.slope = nn.Parameter(torch.tensor(0.0))
        self.rubbing = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("unit", torch.tensor(float(unit)))
        draw_heads(self, random, "world weights")

    @property
    def friction(self) -> torch.Tensor:
        """Rate at which velocities are forgotten, per frame; a square, so that it can vanish."""
        return 0.01 * self.rubbing.square()

    def heads(self, chart: ObservationChart, u: torch.Tensor) -> Heads:
        """Return what the networks say at normal coordinates `[..., D]`."""
        x, slope = chart.features(u)
        value, gradient = self.value.with_gradient(x)
        return Heads(value, chart.gather(gradient * slope), self.drive(x))

    def potential(self, chart: ObservationChart, u: torch.Tensor) -> torch.Tensor:
        """Return the energies at normal coordinates `[..., D]`, `[...]`."""
        return self.energies(u, self.value(chart.features(u)[0]))

    def energies(self, u: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return the energies at normal coordinates `[..., D]` where V is `[...]`."""
        energy = -value
        if self.open:
            r = u.square().sum(-1).clamp_min(1e-18).sqrt()
            # log(lambda / 2) = 2 log cosh(r / 2)
            outward = -2 * u.shape[-1] * functional.softplus(self.outward) * torch.log(torch.cosh(r / 2))
            energy = (
                energy + outward + self._steepness(u) * _WIDTH * functional.softplus((r - _CAPACITY) / _WIDTH)
            )
        return self.unit * energy

    def forces(self, u: torch.Tensor, heads: Heads) -> tuple[torch.Tensor, torch.Tensor]:
        """Return minus the potential's gradient, `[..., D]`, and what unit actions push with, `[..., D, A]`.

        Both in the orthonormal frame, at normal coordinates `[..., D]` where the networks say `heads`.
        """
        force = heads.slope
        if self.open:
            r = u.square().sum(-1, keepdim=True).clamp_min(1e-18).sqrt()
            size = u.shape[-1] * functional.softplus(self.outward) * torch.tanh(r / 2)
            size = size - self._steepness(u) * torch.sigmoid((r - _CAPACITY) / _WIDTH)
            force = force + size * u / r
        return in_frame(u, self.unit * force), self.unit * heads.drive

    def _steepness(self, u: torch.Tensor) -> torch.Tensor:
        """Return a slope that outweighs U, so that the barrier holds whatever is learned."""
        return u.shape[-1] * functional.softplus(self.outward) + functional.softplus(self.slope)


_CAPACITY, _WIDTH = 2.0, 0.25
"""Radius from which the barrier rises, twice the data's, and the length over which it does."""


def draw_heads(module: nn.Module, random: RandomStreams, purpose: str) -> None:
    """Draw the weights of linear layers; the last of a scalar head small, so that it begins small."""
    for name, part in module.named_modules():
        generator = random.generator(purpose, 0, name)
        if isinstance(part, nn.Linear):
            drawn = generator.standard_normal(tuple(part.weight.shape)) / math.sqrt(part.in_features)
            part.weight.data.copy_(torch.from_numpy(drawn.astype(np.float32)))
            if part.bias is not None:
                part.bias.data.zero_()
        if isinstance(part, ScalarHead):
            size = len(part.last)
            drawn = generator.standard_normal(size) / size
            part.last.data.copy_(torch.from_numpy(drawn.astype(np.float32)))
