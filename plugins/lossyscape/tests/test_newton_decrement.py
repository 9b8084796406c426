"""Floors of quadratics and of a small network, against exact ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from atlas_lossyscape.descent import Budget, descend
from atlas_lossyscape.krylov import krylov_space
from atlas_lossyscape.newton_decrement import decrement_noise, newton_decrement, verified_drop
from atlas_lossyscape.steihaug1983cg import steihaug_step
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.preparation import prepared
from attrs import define, evolve
from scipy.stats import t as student

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


class Single(Dense):
    """The same in float32."""

    dtype = torch.float32


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
    found = verified_drop(Dense(matrix), space, gradient)

    assert 0.99 * exact <= found.value <= exact * (1 + 1e-9)
    assert newton_decrement(space, 0.01).certified <= found.value
    assert space.num_matvecs <= 100


def largest_drop(matrix, gradient, space):
    """Return the largest drop of the model in the span of the positive Ritz vectors, by a dense solve."""
    rows = torch.stack([space.basis.vector(i) for i in range(len(space.basis))])[space.theta > 0].double()
    inside, pulled = rows @ matrix @ rows.T, rows @ gradient
    return float(pulled @ torch.linalg.solve(inside, pulled)) / 2


@pytest.mark.parametrize("wrong", [0.0, 0.05, 0.3])
def test_the_bound_of_the_krylov_drop_holds_the_largest_drop_where_ritz_values_are_wrong(wrong):
    matrix, gradient = quadratic([-3.0, -1.0, *torch.linspace(0.5, 20, 60).tolist()])
    space = krylov_space(Dense(matrix), gradient, 16, draws(62))
    noise = torch.randn(len(space.theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    planted = evolve(space, theta=space.theta * (1 + wrong * noise.clamp(-1, 1)))

    found = verified_drop(Dense(matrix), planted, gradient)

    exact = largest_drop(matrix, gradient, space)
    # Float64 leaves 1e-12 of it where nothing is wrong; elsewhere the value is a drop, so it lies below.
    assert exact - found.bound - 1e-9 <= found.value <= exact + 1e-9
    assert (found.bound < 1e-9) == (wrong == 0.0)


def test_the_bound_of_the_krylov_drop_holds_what_float32_loses():
    matrix, gradient = quadratic(torch.logspace(-2, 2, 60))
    single = Single(matrix.float())
    start = lambda i: draws(60)(i).float()  # noqa: E731 # as short as the other

    space = krylov_space(single, gradient.float(), 30, start)
    found = verified_drop(single, space, gradient.float())

    exact = largest_drop(matrix, gradient, space)
    assert 0 < abs(found.value - exact) <= found.bound < 0.01 * exact


def test_a_krylov_space_without_positive_pairs_promises_nothing():
    matrix, gradient = quadratic([-3.0, -2.0, -1.0])
    space = krylov_space(Dense(matrix), gradient, 8, draws(3))

    assert verified_drop(Dense(matrix), space, gradient).value == 0.0


def test_pairs_without_certificate_and_negative_ones_are_counted_as_left_out():
    matrix, gradient = quadratic([-3.0, -1.0, *torch.linspace(0.5, 20, 60).tolist()])
    space = krylov_space(Dense(matrix), gradient, 16, draws(62))

    found = newton_decrement(space, 0.01)

    assert found.share_negative > 0 and found.share_open > 0
    assert found.share_certified + found.share_negative + found.share_open == pytest.approx(1.0)


def test_a_zero_gradient_is_refused():
    with pytest.raises(InstrumentFailed, match="zero"):
        krylov_space(Dense(torch.eye(5, dtype=torch.float64)), torch.zeros(5).double(), 4, draws(5))


@pytest.fixture(scope="module")
def noisy():
    """Decrements, noises and the true decrement of 400 samples of 9 items of random lengths."""
    matrix, gradient = quadratic(torch.linspace(1, 5, 30))
    space = krylov_space(Dense(matrix), gradient, 30, draws(30))
    rng = torch.Generator().manual_seed(1)
    true = space.projections / 3
    found = []
    for _ in range(400):
        weights = 0.7 + 0.6 * torch.rand(9, generator=rng, dtype=torch.float64)
        share = (weights / weights.sum()).unsqueeze(1)
        parts = share * true + share.sqrt() * torch.randn(9, 30, generator=rng, dtype=torch.float64)
        drop = float((parts.sum(0).square() / space.theta).sum()) / 2
        found.append((drop, decrement_noise(space, 0.01, parts, weights)))
    return found, float((true.square() / space.theta).sum()) / 2


def test_decrement_less_floor_is_the_decrement_without_noise(noisy):
    found, true = noisy
    apart = np.array([drop - noise.floor for drop, noise in found])

    # E[(g + e)^2 - var e] = g^2; the mean of 400 has this standard error.
    assert abs(apart.mean() - true) < 3 * apart.std() / 20


def test_the_interval_of_decrement_less_floor_holds_the_true_one(noisy):
    found, true = noisy
    quantile = student.ppf(0.975, 8)

    held = sum(abs(drop - n.floor - true) < quantile * n.standard_error for drop, n in found)

    # Nominal 380 of 400; the jackknife errs to the safe side. Binomial(400, .95) < 366 has probability 1e-3.
    assert held >= 366


def test_the_error_of_the_noise_floor_is_its_spread(noisy):
    found, _ = noisy
    floors = np.array([noise.floor for _, noise in found])
    errors = np.array([noise.floor_error for _, noise in found])

    # The jackknife's variance is too large on average (Efron and Stein 1981): a quarter at nine items.
    assert 1.0 <= np.sqrt((errors**2).mean()) / floors.std() < 1.3


def test_two_items_tell_no_noise():
    matrix, gradient = quadratic([1.0, 2.0, 3.0])
    space = krylov_space(Dense(matrix), gradient, 8, draws(3))

    assert decrement_noise(space, 0.01, torch.ones(2, 3).double(), torch.ones(2).double()) is None


def test_a_step_stays_on_the_boundary_where_curvature_is_negative():
    matrix, gradient = quadratic([-2.0, 1.0, 3.0, 4.0])

    found = steihaug_step(Dense(matrix), gradient, 0.3, max_products=10)

    model = -(gradient @ found.step + found.step @ matrix @ found.step / 2)
    assert found.at_boundary and float(found.step.norm()) == pytest.approx(0.3, rel=1e-12)
    assert found.reduction == pytest.approx(float(model), rel=1e-10)


def test_a_step_that_begins_within_ends_on_the_boundary_and_gains_more_than_its_first_part():
    matrix, gradient = quadratic([1.0, 2.0, 30.0, 40.0])
    radius = 0.9 * float(torch.linalg.solve(matrix, gradient).norm())
    one = steihaug_step(Dense(matrix), gradient, radius, max_products=1)

    found = steihaug_step(Dense(matrix), gradient, radius, max_products=10)

    model = -(gradient @ found.step + found.step @ matrix @ found.step / 2)
    assert float(one.step.norm()) < radius
    assert found.at_boundary and float(found.step.norm()) == pytest.approx(radius, rel=1e-12)
    assert found.reduction == pytest.approx(float(model), rel=1e-10)
    assert found.reduction > one.reduction


def test_where_all_curvature_is_negative_the_step_goes_downhill_to_the_boundary():
    matrix, gradient = quadratic([-2.0, -2.0, -2.0, -2.0])

    found = steihaug_step(Dense(matrix), gradient, 0.3, max_products=10)

    # The model is isotropic: r |g| + r^2 along the gradient.
    length = float(gradient.norm())
    assert torch.allclose(found.step, -gradient * (0.3 / length), rtol=1e-12)
    assert found.reduction == pytest.approx(0.3 * length + 0.3**2, rel=1e-12)


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


class Trough(torch.nn.Module):
    """Loss `5 + log cosh x`, on whose flat side Newton's step leads far up the other."""

    def __init__(self):
        super().__init__()
        self.x = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))

    def loss_sum(self, batch):
        return 5 + torch.log(torch.cosh(self.x)).sum()


def test_a_step_on_which_the_loss_rises_is_refused_and_the_region_shrinks():
    trough = Trough()
    with prepared(trough) as parameters:
        operator = HessianOperator(parameters, trough.loss_sum, [Batch({}, 1.0, ("a",))], retain_graph=False)
        found = descend(operator, Budget(steps=30, products=5, radius=5.0, rtol=1e-6))

    first, second = found.steps[:2]
    assert not first.taken and first.drop < 0 and first.loss == pytest.approx(5 + math.log(math.cosh(2)))
    assert second.radius == first.radius / 4
    assert all(step.drop > 0 for step in found.steps if step.taken)
    # The floor is 5; what is left of it at |g| < 1e-6 is g^2 / 2.
    assert found.reached and found.drop == pytest.approx(math.log(math.cosh(2)), rel=1e-9)
