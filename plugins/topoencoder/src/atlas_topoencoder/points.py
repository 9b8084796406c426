"""Points of the Poincaré ball with their complements `1 - |z|^2`, which no operation has to recompute.

Near the boundary the complement is the small difference of near equals, and whoever squares `z` again
loses its digits. Each operation here has it in closed form: `1 - |exp0(v)|^2 = sech(|v|)^2`, and for a
Möbius sum the product of the complements over the denominator.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from atlas_topoencoder.closed_gradients import Chord, Log0Difference, MobiusSum, PairwiseChord, SelfChord
from atlas_topoencoder.radial_gradients import Complement, Exp0, HalfDistance, Log0, squared_norm

__all__ = [
    "SMALLEST_CHORD",
    "Point",
    "chord",
    "exp0",
    "half_distance",
    "hyperboloid",
    "log0",
    "log0_difference",
    "minus",
    "norm_of",
    "pairwise_chord",
    "pairwise_distance",
    "plus",
    "point",
]

SMALLEST_CHORD = 1e-24
"""Under it a root is not differentiated: its second derivative would overflow in float32."""


class Point(NamedTuple):
    """A point, or a batch of them.

    Attributes:
        z: `[..., D]`, in the ball.
        complement: `1 - |z|^2`, `[..., 1]`, positive.
    """

    z: torch.Tensor
    complement: torch.Tensor

    def at(self, dim: int) -> Point:
        """Return the same point with a dimension of size 1 put in, for broadcasting."""
        return Point(self.z.unsqueeze(dim), self.complement.unsqueeze(dim))

    def detach(self) -> Point:
        """Return the same point as a constant."""
        return Point(self.z.detach(), self.complement.detach())


def point(z: torch.Tensor) -> Point:
    """Return the point of coordinates that came without their complement, which is summed in float64."""
    return Point(z, Complement.apply(z))  # type: ignore[no-untyped-call] # torch's own


def norm_of(v: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Return `sqrt(|v|^2 + d)` over a dimension, which is kept, with d a tenth of a rounding.

    It is differentiable twice at 0. Even functions of the norm, such as `tanh(n) / n`, change by less than a
    rounding.
    """
    return squared_norm(v, dim).sqrt()


def half_distance(chord: torch.Tensor, least: float = SMALLEST_CHORD) -> torch.Tensor:
    """Return `d / 2 = asinh(sqrt u)` of chords u; one below `least` counts as that, with gradient 0."""
    found: torch.Tensor = HalfDistance.apply(chord, least)  # type: ignore[no-untyped-call] # torch's own
    return found


def exp0(v: torch.Tensor, max_radius: float | None = None) -> Point:
    """Return the exponential of a tangent vector at the origin.

    Args:
        v: `[..., D]`.
        max_radius: Where given, the length `n` of `v` is first squashed to `T tanh(n / T)`, with
            `T = max_radius / 2`: nothing lands beyond, and nothing loses its radial gradient by it.
    """
    cap = None if max_radius is None else max_radius / 2
    return Point(*Exp0.apply(v, cap))  # type: ignore[no-untyped-call] # torch's own


def log0(y: torch.Tensor) -> torch.Tensor:
    """Return the tangent vector at the origin whose exponential is y, `[..., D]`."""
    found: torch.Tensor = Log0.apply(y)  # type: ignore[no-untyped-call] # torch's own
    return found


def _mobius_sum(sign: float, x: Point, y: Point) -> Point:
    z, complement = MobiusSum.apply(  # type: ignore[no-untyped-call] # torch's own
        sign, x.z, x.complement, y.z, y.complement
    )
    return Point(z, complement)


def plus(x: Point, y: Point) -> Point:
    """Return the Möbius sum `x + y`."""
    return _mobius_sum(1.0, x, y)


def minus(x: Point, y: Point) -> Point:
    """Return `(-x) + y`, the point y seen from x."""
    return _mobius_sum(-1.0, x, y)


def chord(x: Point, y: Point) -> torch.Tensor:
    """Return `sinh(d / 2)^2` of the distance d, `|x - y|^2 / ((1 - |x|^2)(1 - |y|^2))`, `[..., 1]`."""
    found: torch.Tensor = Chord.apply(  # type: ignore[no-untyped-call] # torch's own
        x.z, x.complement, y.z, y.complement
    )
    return found


def log0_difference(x: Point, y: Point) -> torch.Tensor:
    """Return the logarithm at the origin of `(-x) + y`, `[..., D]`; its norm is half the distance.

    With `u = chord(x, y)`, Möbius difference and logarithm collapse to
    `asinh(sqrt u) / sqrt(u (1 + u)) * ((y - x) / (1 - |y|^2) - u x)`, in which nothing cancels.
    """
    found: torch.Tensor = Log0Difference.apply(  # type: ignore[no-untyped-call] # torch's own
        x.z, x.complement, y.z, y.complement
    )
    return found


def pairwise_distance(x: Point, y: Point) -> torch.Tensor:
    """Return the distances of `[B, D]` to `[N, D]`, `[B, N]`, from differences, which stay exact."""
    return 2 * half_distance(chord(x.at(1), y).squeeze(-1))


def hyperboloid(x: Point) -> torch.Tensor:
    """Return the same point on the hyperboloid, `[..., D + 1]`, its time coordinate first."""
    return torch.cat((2 - x.complement, 2 * x.z), -1) / x.complement


def pairwise_chord(x: Point, y: Point) -> torch.Tensor:
    """Return `chord` of `[..., B, D]` to `[..., N, D]`, `[..., B, N]`, by one matrix product.

    Its rounding is absolute, about eps over the product of the complements, and may make it negative: it
    serves to choose the nearest of many points, not to measure small distances.
    """
    wide = torch.promote_types(x.z.dtype, torch.float32)  # by a product in bfloat16 nothing would be nearest
    parts = [x.z, x.complement] if x is y else [x.z, x.complement, y.z.mT, y.complement.mT]
    function = SelfChord if x is y else PairwiseChord
    with torch.autocast(x.z.device.type, enabled=False):
        found: torch.Tensor = function.apply(*(part.to(wide) for part in parts))  # type: ignore[no-untyped-call] # torch's own
    return found
