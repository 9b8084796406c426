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

from atlas_topoencoder import points

__all__ = [
    "chord",
    "christoffel",
    "conformal_factor",
    "distance",
    "expmap",
    "expmap0",
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


def _sq_norm(x: torch.Tensor) -> torch.Tensor:
    return (x * x).sum(-1, keepdim=True)


def conformal_factor(z: torch.Tensor) -> torch.Tensor:
    """Return `lambda(z) = 2 / (1 - |z|^2)`, `[..., 1]`."""
    return 2 / (1 - _sq_norm(z))


def mobius_add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the Möbius sum of two points, `[..., D]`."""
    return points.plus(points.point(x), points.point(y)).z


def mobius_difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `(-x) + y`, the point y seen from x, `[..., D]`."""
    return points.minus(points.point(x), points.point(y)).z


def expmap0(v: torch.Tensor) -> torch.Tensor:
    """Return the exponential of a tangent vector at the origin, `tanh(|v|) v / |v|`."""
    return points.exp0(v).z


def logmap0(y: torch.Tensor) -> torch.Tensor:
    """Return the tangent vector at the origin that `expmap0` maps to `y`, `atanh(|y|) y / |y|`."""
    return points.log0(y)


def logmap0_difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `logmap0((-x) + y)`, `[..., D]`: y seen from x, in the frame of the origin.

    Its norm is half the distance, and nothing in its closed form cancels.
    """
    return points.log0_difference(points.point(x), points.point(y))


def expmap(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the exponential at `x` of a tangent vector `v` there, in coordinates of the ball."""
    return mobius_add(x, expmap0(v / (1 - _sq_norm(x))))


def logmap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the tangent vector at `x`, in coordinates of the ball, that `expmap` maps to `y`."""
    return (1 - _sq_norm(x)) * logmap0_difference(x, y)


def chord(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `sinh(d / 2)^2` of the distance d, `|x - y|^2 / ((1 - |x|^2)(1 - |y|^2))`, `[...]`."""
    return points.chord(points.point(x), points.point(y)).squeeze(-1)


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the distance of two points, `[...]`; its gradient is 0 where they coincide."""
    return 2 * points.half_distance(chord(x, y))


def sq_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of two points, `[...]`, smooth where they coincide.

    Of a chord u it is `4 asinh(sqrt u)^2`, a power series in u, whose first terms are all of it that a small
    one has (Abramowitz and Stegun 4.6.31, squared).
    """
    u = chord(x, y)
    small = u < 1e-4
    series = 4 * u * (1 - u * (1 / 3 - u * (8 / 45 - u * (4 / 35))))
    far = 2 * points.half_distance(u.masked_fill(small, 1.0))
    return torch.where(small, series, far.square())


def pairwise_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the distances of `[B, D]` to `[N, D]`, `[B, N]`, from differences, which stay exact."""
    return points.pairwise_distance(points.point(x), points.point(y))


def hyperboloid(z: torch.Tensor) -> torch.Tensor:
    """Return the point of the hyperboloid at `z`, `[..., D + 1]`, its time coordinate first."""
    return points.hyperboloid(points.point(z))


def pairwise_chord(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `chord` of `[B, D]` to `[N, D]`, `[B, N]`, by one matrix product, with absolute rounding."""
    return points.pairwise_chord(points.point(x), points.point(y))


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
