"""The Laplace-Beltrami operator on an exact solution of the screened Poisson equation in any dimension.

With the Poisson kernel `P = (1 - |z|^2) / |z - e|^2` of a boundary point e, `V = P^s` solves
`(-Laplacian + kappa^2) V = 0` for `s = ((D - 1) + sqrt((D - 1)^2 + 4 kappa^2)) / 2`.
"""

from __future__ import annotations

import math

import pytest
import torch
from atlas_worldmodel.poisson import laplacian, probed_square, residual, stencil, stencil_laplacian
from atlas_worldmodel.potentials import gradient

SCREENING = 0.8


def solution(z: torch.Tensor) -> torch.Tensor:
    """Return V at points `[B, D]`."""
    size = z.shape[-1]
    power = ((size - 1) + math.sqrt((size - 1) ** 2 + 4 * SCREENING**2)) / 2
    pole = torch.eye(size, dtype=z.dtype)[0]
    return ((1 - z.square().sum(-1)) / (z - pole).square().sum(-1)) ** power


def points(size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return 64 points within |z| = .7."""
    generator = torch.Generator().manual_seed(size)
    z = torch.randn(64, size, generator=generator, dtype=dtype)
    return 0.7 * torch.rand(64, 1, generator=generator, dtype=dtype) ** 0.5 * z / z.norm(dim=-1, keepdim=True)


def relative(trace: torch.Tensor, z: torch.Tensor) -> float:
    """Return the root mean square of the residual over that of its screening term."""
    value = solution(z)
    left = residual(value, trace, torch.zeros_like(value), SCREENING)
    return float(left.norm() / (SCREENING**2 * value).norm())


@pytest.mark.parametrize("size", [2, 3, 8])
def test_exact_second_derivatives_leave_rounding(size):
    z = points(size, torch.float64)
    assert relative(laplacian(solution, z), z) < 1e-12


def test_the_stencil_is_right_to_second_order_in_its_hyperbolic_step():
    z = points(3, torch.float64)
    errors = [relative(stencil_laplacian(solution, z, step), z) for step in (0.08, 0.04)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)


def test_the_stencil_s_gradient_is_autograd_s_to_second_order():
    z = points(3, torch.float64)
    exact = gradient(solution, z) * (1 - z.square().sum(-1, keepdim=True)) / 2
    errors = [float((stencil(solution, z, step).slope - exact).norm()) for step in (0.08, 0.04)]
    assert errors[1] < 1e-3 * float(exact.norm())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)


def test_the_stencil_holds_in_float32():
    """Truncation at h = .03 is 1e-3 here, and rounding 4 eps D / h^2 = 1.6e-3 of the values."""
    z = points(3, torch.float32)
    assert relative(stencil_laplacian(solution, z, 0.03), z) < 1e-2


def test_a_square_from_two_sets_of_probes_is_unbiased_where_one_set_is_not():
    """On the solution the residual is 0: 4 standard errors of 4,000 products; one set is off by over 10."""
    z = points(3, torch.float64)[:8].repeat(500, 1)
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(0, 2, (2, 1, *z.shape), generator=generator).double() - 1
    zero = torch.zeros(len(z), dtype=z.dtype)
    two = probed_square(solution, z, zero, SCREENING, (signs[0], signs[1])).detach() / solution(z).square()
    one = probed_square(solution, z, zero, SCREENING, (signs[0], signs[0])).detach() / solution(z).square()
    error = float(two.std() / math.sqrt(len(two)))
    assert abs(float(two.mean())) < 4 * error
    assert float(one.mean()) > 10 * error
