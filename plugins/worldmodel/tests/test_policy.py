"""The policy's mathematics against exact answers: densities, divergences, gradients and a regulator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from atlas_topoencoder.geometry import expmap0, gyration, mobius_add
from atlas_worldmodel.imagination import Draws, WorldStep, draw_paths, imagine, lambda_returns
from atlas_worldmodel.policy import ForceLaw, Policy, zeno_divergence
from atlas_worldmodel.policy_terms import POLICY_SLOT, POLICY_TERMS, PolicyOutputs
from atlas_worldmodel.spaces import Box, Discrete
from scipy.linalg import solve_discrete_are
from torch.distributions import Independent, Normal, kl_divergence

from atlas.objective import Objective
from atlas.randomness import RandomStreams


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def law(seed: int, size: int = 3) -> ForceLaw:
    return ForceLaw(drawn(5, size, seed=seed), drawn(5, 1, seed=seed + 100) / 3)


def test_density_and_entropy_of_a_force_law_are_those_of_its_normal():
    """Oracle: torch.distributions; float64 rounding."""
    one = law(1)
    normal = Independent(Normal(one.mean, one.log_width.exp().expand(5, 3)), 1)
    force = drawn(5, 3, seed=2)
    torch.testing.assert_close(one.log_density(force), normal.log_prob(force), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one.entropy, normal.entropy(), rtol=1e-12, atol=1e-12)


def test_the_zeno_divergence_at_one_point_is_that_of_two_normals():
    """Oracle: torch.distributions; float64 rounding."""
    now, before = law(1), law(2)
    z = expmap0(drawn(5, 3, seed=3) / 2)
    first, second = (Independent(Normal(x.mean, x.log_width.exp().expand(5, 3)), 1) for x in (now, before))
    torch.testing.assert_close(zeno_divergence(now, z, before, z), kl_divergence(first, second))


def test_the_zeno_divergence_is_zero_for_a_force_that_is_carried_parallel():
    z, moved = (expmap0(drawn(5, 3, seed=seed) / 2) for seed in (3, 4))
    before = law(2)
    now = ForceLaw(gyration(moved, -z, before.mean), before.log_width)
    assert zeno_divergence(now, moved, before, z).abs().max() < 1e-12
    assert zeno_divergence(before, moved, before, z).min() > 1e-3


def test_the_zeno_divergence_does_not_change_under_isometries_of_the_ball():
    """Translation by a turns frames by gyr[a, z]; the tolerance is float64 rounding at these radii."""
    z, moved, a = (expmap0(drawn(5, 3, seed=seed) / 2) for seed in (3, 4, 5))
    now, before = law(1), law(2)

    def translated(point: torch.Tensor, one: ForceLaw) -> tuple[torch.Tensor, ForceLaw]:
        return mobius_add(a, point), ForceLaw(gyration(a, point, one.mean), one.log_width)

    there, now_there = translated(moved, now)
    origin, before_there = translated(z, before)
    torch.testing.assert_close(
        zeno_divergence(now_there, there, before_there, origin),
        zeno_divergence(now, moved, before, z),
        rtol=1e-10,
        atol=1e-10,
    )


def test_lambda_returns_are_the_geometric_mean_of_n_step_returns():
    """Oracle: the definition of Sutton 1988, summed out."""
    horizon, discount, trace = 6, 0.9, 0.7
    rewards, values = drawn(horizon), drawn(horizon + 1, seed=1)
    goes_on = torch.ones(horizon, dtype=torch.float64)
    goes_on[4] = 0.0

    def n_step(start: int, n: int) -> float:
        total, weight = 0.0, 1.0
        for step in range(start, start + n):
            total += weight * float(rewards[step])
            weight *= discount * float(goes_on[step])
        return total + weight * float(values[start + n])

    found = lambda_returns(rewards, goes_on, values, discount=discount, trace=trace)
    for start in range(horizon):
        left = horizon - start
        expected = sum((1 - trace) * trace ** (n - 1) * n_step(start, n) for n in range(1, left))
        expected += trace ** (left - 1) * n_step(start, left)
        assert float(found[start]) == pytest.approx(expected, rel=1e-12)


# A linear system with quadratic costs


A = torch.tensor([[1.0, 0.1], [0.15, 0.98]], dtype=torch.float64)
B = torch.tensor([[0.02], [0.2]], dtype=torch.float64)
Q = torch.diag(torch.tensor([1.0, 0.2], dtype=torch.float64))
R = 0.1


class Regulated:
    """x' = A x + B u with cost x'Qx + R u^2; the policy's numbers in -1 .. 1 are taken back by atanh."""

    def point(self, state: torch.Tensor) -> torch.Tensor:
        return expmap0(state / (2 * math.sqrt(2)))

    def step(self, state: torch.Tensor, action: torch.Tensor) -> WorldStep:
        u = action.atanh()
        cost = ((state @ Q) * state).sum(-1) + R * u.squeeze(-1).square()
        return WorldStep(state @ A.T + u @ B.T, -cost, torch.ones_like(cost))


def linear_policy(seed: int = 0) -> Policy:
    policy = Policy(2, Box([-1], [1]), hidden=0, random=RandomStreams(seed)).double()
    with torch.no_grad():
        policy.body.weight[:2] *= 0.1  # so that the first gain does not make the system explode
    return policy


def gain(policy: Policy) -> torch.Tensor:
    """Return K of u = K x, through body and motor."""
    return policy.motor.weight @ policy.body.weight[:2]


def unmoved(horizon: int, starts: torch.Tensor) -> Draws:
    """Draws of no noise, so that forces are the mean ones."""
    return Draws(torch.zeros(horizon, *starts.shape), torch.zeros(horizon, len(starts)))


def test_the_gradient_through_imagination_is_the_exact_one_of_a_linear_system():
    """Oracle: J(K) = -sum over t of tr((Q + K'RK) S_t), S_t = M S_(t-1) M', M = A + BK, differentiated."""
    policy, starts, horizon = linear_policy(), drawn(7, 2, seed=1) / 4, 25
    path = imagine(Regulated(), policy, starts, unmoved(horizon, starts))
    (-path.rewards.sum(0).mean()).backward()

    k = gain(policy).detach().requires_grad_()
    moment, cost = starts.T @ starts / len(starts), torch.zeros((), dtype=torch.float64)
    for _ in range(horizon):
        cost = cost + torch.trace((Q + R * k.T @ k) @ moment)
        moment = (A + B @ k) @ moment @ (A + B @ k).T
    (by_gain,) = torch.autograd.grad(cost, k)
    by_motor = by_gain @ policy.body.weight[:2].detach().T
    torch.testing.assert_close(policy.motor.weight.grad, by_motor, rtol=1e-9, atol=1e-11)


def test_a_policy_trained_by_imagination_finds_the_gain_of_riccati():
    """Oracle: scipy's algebraic Riccati equation. The closed loop shrinks by .78 a step: 30 leave out 3e-7.

    Starts are small, so that no gain comes near the bounds of the actions.
    """
    p = solve_discrete_are(A.numpy(), B.numpy(), Q.numpy(), np.array([[R]]))
    expected = -np.linalg.solve(R + B.T.numpy() @ p @ B.numpy(), B.T.numpy() @ p @ A.numpy())
    policy, starts = linear_policy(), drawn(8, 2, seed=1) / 1000
    optimizer = torch.optim.Adam([policy.body.weight, policy.motor.weight], 0.1)
    for step in range(160):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 160)
        path = imagine(Regulated(), policy, starts, unmoved(30, starts))
        cost = -path.rewards.sum(0).mean()
        optimizer.zero_grad()
        cost.log().backward()
        optimizer.step()
    np.testing.assert_allclose(gain(policy).detach().numpy(), expected, rtol=1e-3)


# The score


class Bandit:
    """One step from the origin; the reward of force u is -|u - target|^2, that of a choice its table's."""

    def __init__(self, reward):
        self.reward = reward

    def point(self, state: torch.Tensor) -> torch.Tensor:
        return state

    def step(self, state: torch.Tensor, action: torch.Tensor) -> WorldStep:
        reward = self.reward(action)
        return WorldStep(state, reward, torch.ones_like(reward))


def outputs(policy: Policy, world: Bandit, count: int, seed: int) -> PolicyOutputs:
    start = torch.zeros(count, policy.latent, dtype=torch.float64)
    path = imagine(world, policy, start, draw_paths(1, *start.shape, torch.Generator().manual_seed(seed)))
    zero = torch.zeros(2, count, dtype=torch.float64)
    returns = lambda_returns(path.rewards, path.goes_on, zero, discount=1.0, trace=1.0)
    return PolicyOutputs(
        path.z, path.law, path.scores, returns, torch.full_like(returns, -0.5), torch.ones_like(returns)
    )


def reinforce_gradient(policy: Policy, world: Bandit, parameter: torch.Tensor) -> tuple:
    """Return mean and standard error of the gradient over 40 batches of 20000."""
    found = []
    for seed in range(40):
        loss = POLICY_TERMS["policy-reinforce"].function(outputs(policy, world, 20000, seed))
        found.append(torch.autograd.grad(loss, parameter)[0].clone())
    stacked = torch.stack(found)
    return stacked.mean(0), stacked.std(0) / math.sqrt(len(found))


def test_reinforce_of_forces_has_the_gradient_of_the_expected_return():
    """Oracle: E[(tanh(m u) - .9)^2] over a normal u, by Gauss-Hermite quadrature, differentiated."""
    policy = Policy(1, Box([-1], [1]), hidden=0, random=RandomStreams(3)).double()
    world = Bandit(lambda action: -(action.squeeze(-1) - 0.9).square())
    bias = policy.body.bias
    mean, error = reinforce_gradient(policy, world, bias)

    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(80))
    one = policy.law(torch.zeros(1, 1, dtype=torch.float64))
    force = one.mean + one.log_width.exp() * nodes[:, None]
    cost = (policy.decode(force).squeeze(-1) - 0.9).square()
    (exact,) = torch.autograd.grad((weights / weights.sum() * cost).sum(), bias)
    assert (mean - exact).abs().lt(4 * error).all()
    assert exact.abs().gt(8 * error).any()


def test_reinforce_of_choices_trains_the_motor_along_the_expected_return():
    """Oracle: the sum over choices of probability times reward, differentiated, at a law without width."""
    policy = Policy(2, Discrete(3), hidden=0, random=RandomStreams(4)).double()
    with torch.no_grad():
        policy.body.bias.copy_(torch.tensor([0.7, -0.4, -50.0], dtype=torch.float64))
    table = torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64)
    world = Bandit(lambda action: action.detach() @ table)
    mean, error = reinforce_gradient(policy, world, policy.motor.weight)

    force = policy.law(torch.zeros(1, 2, dtype=torch.float64)).mean.detach()
    expected = -(policy.decode(force).softmax(-1) @ table).sum()
    (exact,) = torch.autograd.grad(expected, policy.motor.weight)
    # The law's least width, exp(-5), moves the exact gradient by about 1e-2 of itself.
    assert (mean - exact).abs().lt(4 * error + 0.01 * exact.abs().max()).all()
    assert exact.abs().max() > 8 * error.max()


def test_policy_terms_add_up_by_weight_and_leave_the_value_out_of_the_policys_group():
    policy = Policy(1, Box([-1], [1]), hidden=0, random=RandomStreams(3)).double()
    one = outputs(policy, Bandit(lambda action: -action.squeeze(-1).square()), 50, 0)
    names = ("policy-imagination", "policy-entropy", "policy-baseline")
    value = Objective([POLICY_TERMS[n] for n in names], {"policy-entropy": 0.5})({POLICY_SLOT: one})
    expected = (
        -one.returns.mean() - 0.5 * one.law.entropy.mean() + (one.values - one.returns).square().mean() / 2
    )
    torch.testing.assert_close(value.total, expected)
    assert set(value.groups) == {"policy", "value"}
    longer = one._replace(
        z=one.z[:1].expand(3, -1, -1),
        law=ForceLaw(one.law.mean.repeat(2, 1, 1), one.law.log_width.repeat(2, 1, 1)),
        reached=one.reached.repeat(2, 1),
    )
    assert POLICY_TERMS["policy-zeno"].function(longer).abs() < 1e-12
