"""The Poincaré ball of curvature -1: its gyrovector operations, in forms that float32 bears to radius 6.

Points are `[..., D]` with norm below 1 and broadcast over leading dimensions. The metric is `lambda(z)^2`
times the Euclidean one, `lambda(z) = 2 / (1 - |z|^2)`. `expmap0` and `logmap0` use Euclidean units at the
origin: the hyperbolic length of `v` there is `2 |v|`. Every quotient is written so that its denominator
is a sum of positive terms, with `1 + 2 x.y + |x|^2 |y|^2 = (1 - |x|^2)(1 - |y|^2) + |x + y|^2`; the
textbook forms cancel near the boundary. Formulas: Ungar 2008, "A gyrovector space approach to hyperbolic
geometry", chapters 3 and 4; Ganea et al. 2018, "Hyperbolic neural networks", section 2. The means are in
`atlas_topoencoder.means`.
"""

from __future__ import annotations

import math

import torch

__all__ = [
    "chord",
    "christoffel",
    "conformal_factor",
    "distance",
    "expmap",
    "expmap0",
    "expmap0_within",
    "gyration",
    "hyperboloid",
    "logmap",
    "logmap0",
    "logmap0_difference",
    "mobius_add",
    "mobius_difference",
    "pairwise_chord",
    "pairwise_distance",
    "project",
    "sq_distance",
    "transport",
]

_SMALLEST_CHORD = 1e-24
"""Under it `sqrt` is not differentiated: its second derivative would overflow in float32."""


def _sq_norm(x: torch.Tensor) -> torch.Tensor:
    return (x * x).sum(-1, keepdim=True)


def _norm(x: torch.Tensor) -> torch.Tensor:
    """Norm `[..., 1]`, with a zero gradient at 0; even functions of it lose less than a rounding there."""
    return _sq_norm(x).clamp_min(torch.finfo(x.dtype).eps / 10).sqrt()


def conformal_factor(z: torch.Tensor) -> torch.Tensor:
    """Return `lambda(z) = 2 / (1 - |z|^2)`, `[..., 1]`."""
    return 2 / (1 - _sq_norm(z))


def mobius_add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the Möbius sum of two points, `[..., D]`."""
    total = x + y
    sq_total = _sq_norm(total)
    shrink = 1 - _sq_norm(x)
    return (shrink * total + sq_total * x) / (shrink * (1 - _sq_norm(y)) + sq_total)


def mobius_difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `(-x) + y`, the point y seen from x, `[..., D]`."""
    gap = y - x
    sq_gap = _sq_norm(gap)
    shrink = 1 - _sq_norm(x)
    return (shrink * gap - sq_gap * x) / (shrink * (1 - _sq_norm(y)) + sq_gap)


def expmap0(v: torch.Tensor) -> torch.Tensor:
    """Return the exponential of a tangent vector at the origin, `tanh(|v|) v / |v|`."""
    norm = _norm(v)
    return norm.tanh() / norm * v


def expmap0_within(v: torch.Tensor, max_radius: float) -> torch.Tensor:
    """Return `expmap0` of `v` with its length `n` squashed to `T tanh(n / T)`, `T = max_radius / 2`.

    Every vector lands within the hyperbolic radius `max_radius`, and none loses its radial gradient by it.
    """
    norm = _norm(v)
    bound = max_radius / 2
    return (bound * (norm / bound).tanh()).tanh() / norm * v


def logmap0(y: torch.Tensor) -> torch.Tensor:
    """Return the tangent vector at the origin that `expmap0` maps to `y`, `atanh(|y|) y / |y|`."""
    norm = _norm(y)
    return norm.atanh() / norm * y


def logmap0_difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `logmap0((-x) + y)`, `[..., D]`: y seen from x, in the frame of the origin.

    Its norm is half the distance. With `u = chord(x, y)`, the Möbius difference and the logarithm
    collapse to `asinh(sqrt u) / sqrt(u (1 + u)) * ((y - x) / (1 - |y|^2) - u x)`, in which nothing cancels.
    """
    gap = y - x
    shrink = 1 - _sq_norm(y)
    u = _sq_norm(gap) / (shrink * (1 - _sq_norm(x)))
    bounded = u.clamp_min(torch.finfo(x.dtype).eps / 10)
    return bounded.sqrt().asinh() * (bounded * (1 + bounded)).rsqrt() * (gap / shrink - u * x)


def expmap(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the exponential at `x` of a tangent vector `v` there, in coordinates of the ball."""
    return mobius_add(x, expmap0(v / (1 - _sq_norm(x))))


def logmap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the tangent vector at `x`, in coordinates of the ball, that `expmap` maps to `y`."""
    return (1 - _sq_norm(x)) * logmap0_difference(x, y)


def chord(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `sinh(d / 2)^2` of the distance d, `|x - y|^2 / ((1 - |x|^2)(1 - |y|^2))`, `[...]`."""
    shrink = (1 - (x * x).sum(-1)) * (1 - (y * y).sum(-1))
    gap = x - y
    return (gap * gap).sum(-1) / shrink


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the distance of two points, `[...]`; its gradient is 0 where they coincide."""
    return 2 * chord(x, y).clamp_min(_SMALLEST_CHORD).sqrt().asinh()


def sq_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of two points, `[...]`, smooth where they coincide."""
    return distance(x, y).square()


def pairwise_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the distances of `[B, D]` to `[N, D]`, `[B, N]`, from differences, which stay exact."""
    gap = x.unsqueeze(1) - y
    shrink = (1 - _sq_norm(x)) * (1 - (y * y).sum(-1))
    return 2 * ((gap * gap).sum(-1) / shrink).clamp_min(_SMALLEST_CHORD).sqrt().asinh()


def hyperboloid(z: torch.Tensor) -> torch.Tensor:
    """Return the point of the hyperboloid at `z`, `[..., D + 1]`, its time coordinate first."""
    sq = _sq_norm(z)
    return torch.cat((1 + sq, 2 * z), -1) / (1 - sq)


def pairwise_chord(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `chord` of `[B, D]` to `[N, D]`, `[B, N]`, by one matrix product of hyperboloid coordinates.

    Its rounding is absolute, about eps times the product of the time coordinates, and may make it
    negative: it serves to choose the nearest of many points, not to measure small distances.
    """
    sq = _sq_norm(y)
    mirrored = torch.cat((1 + sq, -2 * y), -1) / (1 - sq)
    return (hyperboloid(x) @ mirrored.mT - 1) / 2


def gyration(x: torch.Tensor, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return `gyr[x, y] v`, the rotation by which the Möbius sum fails to associate, `[..., D]`."""
    xv, yv = (x * v).sum(-1, keepdim=True), (y * v).sum(-1, keepdim=True)
    xx, yy, xy = _sq_norm(x), _sq_norm(y), (x * y).sum(-1, keepdim=True)
    along_x = yv + 2 * xy * yv - xv * yy
    along_y = -yv * xx - xv
    return v + 2 * (along_x * x + along_y * y) / ((1 - xx) * (1 - yy) + _sq_norm(x + y))


def transport(x: torch.Tensor, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the tangent vector `v` at `x` after parallel transport along the geodesic to `y`, `[..., D]`.

    It is `lambda(x) / lambda(y) gyr[y, -x] v`. The scaling alone is right only where x, y and the origin
    lie on one line.
    """
    return (1 - _sq_norm(y)) / (1 - _sq_norm(x)) * gyration(y, -x, v)


def christoffel(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return `Gamma(v, v) = lambda(z) (2 (z.v) v - |v|^2 z)`; a geodesic obeys `z'' = -Gamma(z', z')`."""
    return conformal_factor(z) * (2 * (z * v).sum(-1, keepdim=True) * v - _sq_norm(v) * z)


def project(z: torch.Tensor, max_radius: float) -> torch.Tensor:
    """Return `[N, D]` with every point beyond the hyperbolic radius moved back along its ray."""
    return torch.renorm(z, 2, 0, math.tanh(max_radius / 2))
