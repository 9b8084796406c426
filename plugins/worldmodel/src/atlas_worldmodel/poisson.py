"""The Laplace-Beltrami operator of the ball, and the residual of the screened Poisson equation.

`Laplacian f = lambda^-2 (sum_i d_i^2 f + (D - 2) lambda z . df)`, the middle term vanishing in two
dimensions alone. A critic V with source rho obeys `(-Laplacian + kappa^2) V = rho`.

Three ways of taking the trace, for three uses. `laplacian` differentiates twice along each axis: exact, D
backward passes. `stencil_laplacian` compares 2 D + 1 values of V, without a graph of second order. A squared
residual must never be made of one random probe: its mean is the squared residual plus the probe's variance,
`2 sum_(i != j) H_ij^2`, which punishes curvature instead of the residual; `probed_square` multiplies two
residuals of independent probes, whose mean is the square itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from atlas_topoencoder.geometry import expmap0, mobius_add

__all__ = ["Stencil", "laplacian", "probed_square", "residual", "stencil", "stencil_laplacian"]

Scalar = Callable[[torch.Tensor], torch.Tensor]
"""Maps points `[B, D]` to values `[B]`, each on its own, differentiably."""


def laplacian(function: Scalar, z: torch.Tensor, *, graph: bool = False) -> torch.Tensor:
    """Return `Laplacian function` at points `[B, D]` by exact second derivatives, `[B]`.

    Args:
        function: Twice differentiable.
        z: Points.
        graph: Whether the result is to be differentiated, by the function's parameters say.
    """
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
        columns = []
        for axis in range(z.shape[-1]):
            (bent,) = torch.autograd.grad(slope[:, axis].sum(), at, create_graph=graph, retain_graph=True)
            columns.append(bent[:, axis])
        found = _on_ball(torch.stack(columns).sum(0), slope, at)
    return found if graph else found.detach()


class Stencil(NamedTuple):
    """What values about points say of a function.

    Attributes:
        value: At the points, `[B]`.
        slope: Its gradient in the orthonormal frame, `[B, D]`.
        laplacian: `[B]`.
    """

    value: torch.Tensor
    slope: torch.Tensor
    laplacian: torch.Tensor


def stencil_laplacian(function: Scalar, z: torch.Tensor, step: float) -> torch.Tensor:
    """Return `Laplacian function` at points `[B, D]` as `stencil` has it, `[B]`."""
    return stencil(function, z, step).laplacian


def stencil(function: Scalar, z: torch.Tensor, step: float) -> Stencil:
    """Return value, gradient and Laplacian at points `[B, D]` from values on geodesics along the axes.

    The Laplacian is `sum_i (f(exp_z(h e_i)) + f(exp_z(-h e_i)) - 2 f(z)) / h^2` over an orthonormal frame, h
    in hyperbolic length, so that no point leaves the ball. Its truncation is `h^2 / 12 sum_i d^4 f / ds_i^4`,
    its rounding up to `4 eps |f| D / h^2`. The gradient's truncation is `h^2 / 6 d^3 f / ds_i^3`.
    """
    size = z.shape[-1]
    axes = expmap0(step / 2 * torch.eye(size, dtype=z.dtype, device=z.device))
    around = mobius_add(z.unsqueeze(0), torch.cat((axes, -axes)).unsqueeze(1))  # [2 D, B, D]
    values = function(torch.cat((z.unsqueeze(0), around)).flatten(0, 1)).view(2 * size + 1, -1)
    slope = (values[1 : size + 1] - values[size + 1 :]).T / (2 * step)
    return Stencil(values[0], slope, (values[1:] - values[0]).sum(0) / step**2)


def residual(
    value: torch.Tensor, curvature: torch.Tensor, source: torch.Tensor, screening: float
) -> torch.Tensor:
    """Return `-Laplacian V + kappa^2 V - rho`, `[B]`.

    Args:
        value: V, `[B]`.
        curvature: `Laplacian V`, `[B]`.
        source: rho, `[B]`.
        screening: kappa.
    """
    return screening**2 * value - curvature - source


def probed_square(
    function: Scalar,
    z: torch.Tensor,
    source: torch.Tensor,
    screening: float,
    probes: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Return unbiased estimates of the squared residual, `[B]`, from two independent sets of probes.

    Args:
        function: V, twice differentiable; the result can be differentiated by its parameters.
        z: Points, `[B, D]`.
        source: rho, `[B]`.
        screening: kappa.
        probes: Two tensors `[P, B, D]` of independent signs.
    """
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        value = function(at)
        (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        found = []
        for draws in probes:
            forms = []
            for probe in draws:
                (bent,) = torch.autograd.grad((slope * probe).sum(), at, create_graph=True)
                forms.append((bent * probe).sum(-1))
            trace = _on_ball(torch.stack(forms).mean(0), slope, at)
            found.append(residual(value, trace, source, screening))
    return found[0] * found[1]


def _on_ball(trace: torch.Tensor, slope: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return the ball's Laplacian from the sum of second derivatives in coordinates, `[B]`."""
    shrink = 1 - z.square().sum(-1)
    return shrink.square() / 4 * trace + (z.shape[-1] - 2) / 2 * shrink * (z * slope).sum(-1)
