"""Floors of quadratics and of a small network, against exact ones."""

from __future__ import annotations

import math

import pytest
import torch
from atlas_lossyscape.descent import Budget, descend
from atlas_lossyscape.krylov import krylov_space
from atlas_lossyscape.newton_decrement import decrement_noise, newton_decrement
from atlas_lossyscape.steihaug1983cg import steihaug_step
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.preparation import prepared
from attrs import define

from atlas.contracts import Batch
from atlas.errors import InstrumentFailed

torch.set_num_threads(1)


@define
class Dense:
    """A symmetric matrix behind the operator interface."""

    matrix: torch.Tensor
    num_matvecs: int = 0
    dtype = torch.float64
    device = torch.device("cpu")

    @property
    def size(self):
        return len(self.matrix)

    def matvec(self, vector, *, out=None):
        self.num_matvecs += 1
        return torch.mv(self.matrix, vector, out=out)


def quadratic(values, seed=0):
    """Return a matrix of these eigenvalues in random coordinates, and a random gradient."""
    rng = torch.Generator().manual_seed(seed)
    size = len(values)
    vectors = torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64))[0]
    matrix = (vectors * torch.as_tensor(values, dtype=torch.float64)) @ vectors.T
    return (matrix + matrix.T) / 2, torch.randn(size, generator=rng, dtype=torch.float64)


def draws(size):
    return lambda i: torch.randn(size, generator=torch.Generator().manual_seed(100 + i), dtype=torch.float64)


class Bowl(torch.nn.Module):
    def __init__(self, matrix, gradient):
        super().__init__()
        self.x = torch.nn.Parameter(torch.zeros(len(gradient), dtype=torch.float64))
        self.matrix, self.gradient = matrix, gradient

    def loss_sum(self, batch):
        return 5.0 + self.gradient @ self.x + self.x @ self.matrix @ self.x / 2


# Exact floor of a quadratic: g^T H^-1 g / 2. In the whole space only rounding is left: cond 1e4 times 1e-16.


def test_the_certified_decrement_of_a_small_quadratic_is_the_exact_one():
    matrix, gradient = quadratic(torch.logspace(-2, 2, 40))

    space = krylov_space(Dense(matrix), gradient, 40, draws(40))

    exact = float(gradient @ torch.linalg.solve(matrix, gradient)) / 2
    found = newton_decrement(space, 0.01)
    assert found.certified == pytest.approx(exact, rel=1e-8)
    assert found.share_certified == pytest.approx(1.0, abs=1e-10)


def test_the_krylov_decrement_of_a_large_quadratic_comes_within_one_per_cent_from_below():
    matrix, gradient = quadratic(torch.logspace(-1, 2, 400))
    space = krylov_space(Dense(matrix), gradient, 100, draws(400))

    exact = float(gradient @ torch.linalg.solve(matrix, gradient)) / 2
    found = newton_decrement(space, 0.01)

    assert 0.99 * exact <= found.krylov <= exact * (1 + 1e-9)
    assert found.certified <= found.krylov
    assert space.num_matvecs <= 100


def test_pairs_without_certificate_and_negative_ones_are_counted_as_left_out():
    matrix, gradient = quadratic([-3.0, -1.0, *torch.linspace(0.5, 20, 60).tolist()])
    space = krylov_space(Dense(matrix), gradient, 16, draws(62))

    found = newton_decrement(space, 0.01)

    assert found.share_negative > 0 and found.share_open > 0
    assert found.share_certified + found.share_negative + found.share_open == pytest.approx(1.0)


def test_a_zero_gradient_is_refused():
    with pytest.raises(InstrumentFailed, match="zero"):
        krylov_space(Dense(torch.eye(5, dtype=torch.float64)), torch.zeros(5).double(), 4, draws(5))


def test_the_noise_floor_of_pure_noise_is_the_decrement_to_be_expected():
    # E[(sum_b e_b)^2 / (2 theta)] = B var / (2 theta) for each of 30 directions; of 400 repetitions' means
    # the ratio has a standard error near 0.02.
    matrix, gradient = quadratic(torch.linspace(1, 5, 30))
    space = krylov_space(Dense(matrix), gradient, 30, draws(30))
    rng = torch.Generator().manual_seed(1)
    weights, ratios = torch.ones(8, dtype=torch.float64), []
    for _ in range(400):
        parts = torch.randn(8, 30, generator=rng, dtype=torch.float64)
        drop = float((parts.sum(0).square() / space.theta).sum()) / 2
        ratios.append((drop, decrement_noise(space, 0.01, parts, weights).floor))

    means = [sum(column) / 400 for column in zip(*ratios, strict=True)]

    assert means[1] / means[0] == pytest.approx(1.0, abs=0.08)


def test_a_step_stays_on_the_boundary_where_curvature_is_negative():
    matrix, gradient = quadratic([-2.0, 1.0, 3.0, 4.0])

    found = steihaug_step(Dense(matrix), gradient, 0.3, max_products=10)

    model = -(gradient @ found.step + found.step @ matrix @ found.step / 2)
    assert found.at_boundary and float(found.step.norm()) == pytest.approx(0.3, rel=1e-12)
    assert found.reduction == pytest.approx(float(model), rel=1e-10)


def test_an_interior_step_is_newtons():
    matrix, gradient = quadratic([1.0, 2.0, 3.0, 4.0])

    found = steihaug_step(Dense(matrix), gradient, 1e3, max_products=10, rtol=1e-12)

    assert not found.at_boundary
    assert torch.allclose(found.step, -torch.linalg.solve(matrix, gradient), rtol=1e-9)


def test_descent_reaches_the_floor_of_a_quadratic_and_puts_the_weights_back():
    matrix, gradient = quadratic(torch.linspace(1, 10, 12))
    bowl = Bowl(matrix, gradient)
    batches = [Batch({}, 1.0, ("a",))]
    with prepared(bowl) as parameters:
        operator = HessianOperator(parameters, bowl.loss_sum, batches, retain_graph=False)
        found = descend(operator, Budget(steps=30, products=20, radius=0.5, rtol=1e-6))

    exact = float(gradient @ torch.linalg.solve(matrix, gradient)) / 2
    # Short of the floor by at most |g_end|^2 / (2 lambda_min), 1e-12 of |g|^2.
    assert found.reached and found.drop == pytest.approx(exact, rel=1e-8)
    assert not bowl.x.detach().any()
    assert math.isfinite(found.distance)
