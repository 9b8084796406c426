"""The networks of a world along a path: asked place after place without a graph, and gone back over once.

A frame asks for forces at a place that the frame before led to, and the loss comes to each place from the
frame after. Both ways are written out from the layers, so that a place costs as many products of matrices as
it must and few calls, and the gradients of the layers add up in place. With `h = tanh(W_1 x + b_1)` and
`k = tanh(W_2 h + b_2)` the value is `V = v . k`, its gradient by the features `y = W_1^T (1 - h^2) q` with
`q = W_2^T (1 - k^2) v`. Where the loss has the gradient e by V and the gradient t by y, as if x moved by t,
`p = W_1 t` and `r = W_2 (1 - h^2) p` give the loss' gradients by what the layers hold:
`j = (1 - k^2) v (e - 2 k r)` by `W_2 h + b_2` and `(1 - h^2) (W_2^T j - 2 h p q)` by `W_1 x + b_1`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from atlas_worldmodel.fields import Fields, Heads
from atlas_worldmodel.observation_chart import ObservationChart

__all__ = ["HeadTape", "packed", "unpacked"]


def packed(heads: Heads) -> torch.Tensor:
    """Return what the networks say in one row of numbers, `[..., 1 + D + D A]`."""
    return torch.cat((heads.value.unsqueeze(-1), heads.slope, heads.drive.flatten(-2)), -1)


def unpacked(rows: torch.Tensor, dimension: int) -> Heads:
    """Return what `packed` was given."""
    drive = rows[..., 1 + dimension :]
    shape = (*drive.shape[:-1], dimension, -1)
    return Heads(rows[..., 0], rows[..., 1 : 1 + dimension], drive.reshape(shape))


class _Place(NamedTuple):
    """What the networks held at one call; the value's first, then the drive's.

    Attributes:
        x: Features and a one, `[B, F + 1]`.
        slope: Derivatives of the features.
        gradient: `y`.
        hidden: `h`, `[2, B, width]`.
        deep: `k`, likewise.
        back: `(1 - h^2) q` of the value.
    """

    x: torch.Tensor
    slope: torch.Tensor
    gradient: torch.Tensor
    hidden: torch.Tensor
    deep: torch.Tensor
    back: torch.Tensor


class HeadTape:
    """The networks of `fields`, with a record of each call.

    Args:
        fields: Whose networks.
        chart: Of the features.

    Attributes:
        parameters: Of the networks; `HeadGradients` finds a gradient for each.
        places: Records, by call.
    """

    def __init__(self, fields: Fields, chart: ObservationChart) -> None:
        value, drive = fields.value, fields.drive
        self.parameters = (
            value.first.weight, value.first.bias, value.second.weight, value.second.bias, value.last,
            drive.first.weight, drive.first.bias, drive.second.weight, drive.second.bias,
            drive.last.weight, drive.last.bias,
        )  # fmt: skip
        (
            v1, v1_bias, self.v2, v2_bias, self.v3,
            d1, d1_bias, self.d2, d2_bias, self.d3, self.d3_bias,
        ) = (parameter.detach() for parameter in self.parameters)  # fmt: skip
        self.v1, self.d1 = (torch.cat((w.T, b[None])) for w, b in ((v1, v1_bias), (d1, d1_bias)))
        self._twice = [2 * w for w in (self.v1, self.d1, self.v2.T, self.d2.T)]
        self._twice_bias = 2 * torch.stack((v2_bias, d2_bias)).unsqueeze(1)
        self.chart, self.bends, self.one = chart, chart.bends(), v1.new_ones(())
        self.places: list[_Place] = []
        self._shape = drive.shape

    def __call__(self, u: torch.Tensor) -> Heads:
        """Return what the networks say at normal coordinates `[B, D]`, without a graph."""
        features, slope = self.chart.features(u)
        x = functional.pad(features, (0, 1), value=1.0)
        v1, d1, v2, d2 = self._twice
        hidden, deep = (x.new_empty(2, len(x), len(self.v3)) for _ in range(2))
        h, h_d = hidden
        torch.mm(x, v1, out=h)
        torch.mm(x, d1, out=h_d)
        _tanh_of_half(hidden)
        k, k_d = deep
        torch.mm(h, v2, out=k)
        torch.mm(h_d, d2, out=k_d)
        _tanh_of_half(deep.add_(self._twice_bias))
        q = torch.addcmul(self.v3, self.v3 * k, k, value=-1) @ self.v2
        back = q.addcmul_(q * h, h, value=-1)
        gradient = back @ self.v1[:-1].T
        drive = torch.addmm(self.d3_bias, k_d, self.d3.T)
        self.places.append(_Place(x, slope, gradient, hidden, deep, back))
        return Heads(k @ self.v3, self.chart.gather(gradient * slope), drive.view(-1, *self._shape))


class HeadGradients:
    """Goes back over the calls of a tape, in any order, and adds up the gradients of the parameters.

    Attributes:
        found: By parameter, in the tape's order.
    """

    def __init__(self, tape: HeadTape) -> None:
        self._tape = tape
        self._v1, self._d1 = torch.zeros_like(tape.v1), torch.zeros_like(tape.d1)
        self._v2, self._d2 = torch.zeros_like(tape.v2), torch.zeros_like(tape.d2)
        self._v3, self._d3 = torch.zeros_like(tape.v3), torch.zeros_like(tape.d3)
        self._deep_bias = torch.zeros_like(tape.v3).repeat(2, 1)
        self._d3_bias = torch.zeros_like(tape.d3_bias)
        self.found = (
            self._v1[:-1].T, self._v1[-1], self._v2, self._deep_bias[0], self._v3,
            self._d1[:-1].T, self._d1[-1], self._d2, self._deep_bias[1], self._d3, self._d3_bias,
        )  # fmt: skip

    def __call__(self, number: int, by: Heads) -> torch.Tensor:
        """Return the loss' gradient by the place of one call, `[B, D]`, from that by what was said there."""
        tape = self._tape
        x, slope, gradient, hidden, deep, back = tape.places[number]
        (h, h_d), (k, k_d) = hidden, deep
        e, along, g = by.value.unsqueeze(-1), tape.chart.spread(by.slope), by.drive.flatten(-2)
        bent, bent_deep = (torch.addcmul(tape.one, held, held, value=-1) for held in (hidden, deep))
        (bent_h, _), (bent_k, bent_k_d) = bent, bent_deep
        t = along * slope
        p = t @ tape.v1[:-1]
        bent_p, steep = bent_h * p, bent_k * tape.v3
        r = bent_p @ tape.v2.T
        at_hidden, at_deep = torch.empty_like(hidden), torch.empty_like(deep)
        (at_h, at_h_d), (at_k, at_k_d) = at_hidden, at_deep
        torch.addcmul(e, k, r, value=-2, out=at_k).mul_(steep)
        torch.mm(g, tape.d3, out=at_k_d).mul_(bent_k_d)
        torch.mm(at_k, tape.v2, out=at_h)
        torch.mm(at_k_d, tape.d2, out=at_h_d)
        at_hidden.mul_(bent)
        at_h.addcmul_(p.mul_(h), back, value=-2)
        self._v1.addmm_(x.T, at_h)
        self._v1[:-1].addmm_(t.T, back)
        self._d1.addmm_(x.T, at_h_d)
        self._v2.addmm_(steep.T, bent_p).addmm_(at_k.T, h)
        self._deep_bias += at_deep.sum(1)
        self._v3 += torch.addcmul(e * k, bent_k, r).sum(0)
        self._d2.addmm_(at_k_d.T, h_d)
        self._d3.addmm_(g.T, k_d)
        self._d3_bias += g.sum(0)
        by_x = torch.addmm(at_h @ tape.v1[:-1].T, at_h_d, tape.d1[:-1].T)
        return tape.chart.gather(by_x * slope + along * gradient * x[:, :-1] * tape.bends)


def _tanh_of_half(twice: torch.Tensor) -> torch.Tensor:
    """Return `tanh(t / 2) = 2 sigmoid(t) - 1` in place; torch's tanh takes several times as long."""
    return twice.sigmoid_().mul_(2).sub_(1)
