"""The integrator against geodesics, closed orbits, its own order, time's reversal and the Boltzmann law."""

from __future__ import annotations

import itertools
import math

import geoopt
import pytest
import torch
from atlas_worldmodel.integrator import Dynamics, Moment, simulate
from atlas_worldmodel.potentials import Barrier, Outward, Well, gradient, radius, total
from atlas_worldmodel.splitting import State, kick, rotate
from atlas_worldmodel.twoforms import AreaField, UniformField, exterior_derivative

from atlas.errors import BadInput

FLOAT = torch.float64


def start(dimension: int, *, at: float = 0.5, speed: float = 1.0, count: int = 1) -> State:
    """Return states at one radius in coordinates, with one speed, in directions from a seed."""
    generator = torch.Generator().manual_seed(dimension)
    z, w = torch.randn(2, count, dimension, generator=generator, dtype=FLOAT)
    return State(at * z / z.norm(dim=-1, keepdim=True), speed * w / w.norm(dim=-1, keepdim=True))


def last(dynamics: Dynamics, state: State, *, time: float, steps: int, order: int = 2) -> Moment:
    """Return the moment at the end of a path."""
    *_, moment = simulate(dynamics, state, time=time, steps=steps, every=steps, order=order)
    return moment


@pytest.mark.parametrize("dimension", [2, 16])
def test_free_flight_is_the_geodesic_with_its_velocity_carried_parallel(dimension):
    """Oracle: geoopt's exponential and transport in float64; tolerance: the roundings of 200 steps."""
    ball, state = geoopt.PoincareBall(), start(dimension, count=5)
    velocity = state.w / ball.lambda_x(state.z, keepdim=True)
    expected = ball.expmap(state.z, 2.0 * velocity)
    carried = ball.transp(state.z, expected, velocity) * ball.lambda_x(expected, keepdim=True)
    observed = last(Dynamics(), state, time=0.01, steps=200).state
    assert torch.allclose(observed.z, expected, rtol=0, atol=1e-12)
    assert torch.allclose(observed.w, carried, rtol=0, atol=1e-10)


@pytest.mark.parametrize("field", [None, UniformField(2.0)])
@pytest.mark.parametrize(("order", "coarse"), [(2, 0.05), (4, 0.1)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(field, order, coarse):
    dynamics = Dynamics(Well(1.0, (0.3, -0.2, 0.1, 0.4)), field)
    state, duration = start(4), 1.0

    def end(time: float, order: int) -> torch.Tensor:
        steps = round(duration / time)
        return torch.cat(last(dynamics, state, time=time, steps=steps, order=order).state)

    exact = end(coarse / 16, 4)
    errors = [float((end(coarse / k, order) - exact).norm()) for k in (1, 2, 4)]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(slope - order) < 0.05 * order / 2 for slope in slopes), slopes


def test_a_reversed_path_runs_back():
    """Tolerance: the roundings of 2,000 steps; a field that is not turned misses it by ten orders."""
    dynamics, state = Dynamics(Well(), UniformField(2.0)), start(4)
    there = last(dynamics, state, time=0.05, steps=1000).state
    back = last(dynamics.reversed(), there.reversed(), time=0.05, steps=1000).state.reversed()
    assert torch.allclose(torch.cat(back), torch.cat(state), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dimension", [2, 3, 16])
def test_a_field_of_any_strength_keeps_the_kinetic_energy(dimension):
    generator = torch.Generator().manual_seed(0)
    matrix = 1e3 * torch.randn(64, dimension, dimension, generator=generator, dtype=FLOAT)
    state = start(dimension, count=64)
    turned = rotate(state, matrix - matrix.mT, 0.5)
    assert not torch.allclose(turned.w, state.w, atol=0.1)
    assert torch.allclose(turned.kinetic_energy, state.kinetic_energy, rtol=1e-12, atol=0)


def test_a_field_bends_free_flight_into_the_circle_of_its_strength():
    """Oracle: with Omega = B J, B > |w|, a circle of radius R = atanh(|w| / B) about exp_z(R J w / |w|)."""
    strength, ball = 2.0, geoopt.PoincareBall()
    state = start(2)
    big = math.atanh(1 / strength)
    across = torch.stack((-state.w[:, 1], state.w[:, 0]), -1)
    centre = ball.expmap(state.z, big * across / ball.lambda_x(state.z, keepdim=True))
    worst = {}
    for time in (0.02, 0.01):
        path = simulate(Dynamics(field=AreaField(strength)), state, time=time, steps=round(4 / time))
        worst[time] = max(abs(float(ball.dist(moment.state.z, centre)) - big) for moment in path)
    assert worst[0.02] < 1e-4
    assert worst[0.02] / worst[0.01] == pytest.approx(4, rel=0.05)


def test_a_constant_force_changes_the_covector_momentum_at_its_rate():
    state = start(3)
    force = torch.tensor([0.3, -1.0, 2.0], dtype=FLOAT)
    kicked = kick(state, force, 0.1)
    factor = 2 / (1 - state.z.square().sum(-1, keepdim=True))
    assert torch.allclose(factor * (kicked.w - state.w), 0.1 * force.expand(1, 3), rtol=1e-13)


def test_energy_changes_by_work_and_heat_but_for_the_order_of_the_step():
    def unexplained(time: float) -> float:
        dynamics = Dynamics(Well(), UniformField(1.0), torch.cos, friction=0.7, temperature=0.0)
        moment = last(dynamics, start(3), time=time, steps=round(2 / time))
        change = dynamics.energy(moment.state) - dynamics.energy(start(3))
        assert abs(float(moment.exchange.work)) > 0.1 < abs(float(moment.exchange.heat))
        return float((change - moment.exchange.work - moment.exchange.heat).abs())

    assert unexplained(0.02) < 1e-4
    assert unexplained(0.04) / unexplained(0.02) == pytest.approx(4, rel=0.1)


def test_the_thermostat_keeps_the_boltzmann_law():
    """Oracle: p(r) ~ sinh(r)^3 exp(-r^2 / 2 T) in four dimensions, where a missing drift would show.

    Its mean is 1.7184 at T = 1/2; 4 standard errors of 20 nearly independent samples of 4,000 particles and
    the step's own error of order h^2, .002 at h = .1, are .012. A temperature 3% off misses it.
    """
    grid = torch.linspace(0, 12, 200_001, dtype=FLOAT)
    law = torch.sinh(grid) ** 3 * torch.exp(-grid.square())
    expected = float((grid * law).sum() / law.sum())
    generator = torch.Generator().manual_seed(1)
    dynamics = Dynamics(Well(), friction=1.0, temperature=0.5)
    state = start(4, count=4000)
    path = simulate(dynamics, state, time=0.1, steps=600, every=20, generator=generator)
    radii = torch.stack([radius(moment.state.z) for moment in path][10:])
    assert float(radii.mean()) == pytest.approx(expected, abs=0.012)


def test_a_force_is_the_gradient_of_the_potential():
    """Oracle: central differences, good to h^2 = 1e-10 of third derivatives near 10."""
    potential = total(Well(0.7, (0.1, 0.2, 0.3)), Outward(0.5), Barrier(capacity=1.0, slope=8.0))
    z = start(3, at=0.6).z
    for axis in range(3):
        move = 1e-5 * torch.eye(3, dtype=FLOAT)[axis]
        slope = (potential(z + move) - potential(z - move)) / 2e-5
        assert float(gradient(potential, z)[0, axis]) == pytest.approx(float(slope), rel=1e-7)


def test_forces_at_the_origin_are_finite_and_zero():
    origin = torch.zeros(1, 3, dtype=FLOAT)
    for potential in (Well(), Outward(), Barrier(capacity=1.0, slope=8.0)):
        assert torch.equal(gradient(potential, origin), origin)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_a_barrier_holds_a_gas_exactly_where_it_says_so(temperature):
    """Oracle: the law's log-density by radius falls or rises far out."""
    outward, far = Outward(1.0), torch.tensor([[math.tanh(4.0), 0, 0], [math.tanh(4.5), 0, 0]], dtype=FLOAT)
    least = 3 + 2 * temperature
    for slope, holds in ((1.02 * least, True), (0.98 * least, False)):
        barrier = Barrier(capacity=2.0, slope=slope)
        density = -total(outward, barrier)(far) / temperature + 2 * torch.log(torch.sinh(radius(far)))
        assert bool(density[1] < density[0]) is holds
        if holds:
            barrier.require_normalisable(3, temperature, outward)
        else:
            with pytest.raises(BadInput, match=f"slope above {least:g}"):
                barrier.require_normalisable(3, temperature, outward)


def test_the_uniform_field_is_the_derivative_of_its_one_form():
    def form(z: torch.Tensor) -> torch.Tensor:
        return 2 * 1.3 * torch.cat((z[1:2], -z[0:1], torch.zeros_like(z[2:])))

    z = start(4, count=3).z
    assert torch.allclose(exterior_derivative(form, z), UniformField(1.3)(z), rtol=0, atol=1e-14)


def test_a_fourth_order_step_refuses_friction():
    with pytest.raises(BadInput, match="cannot run back"):
        last(Dynamics(friction=0.1), start(2), time=0.1, steps=1, order=4)


def test_a_temperature_without_random_numbers_is_refused():
    with pytest.raises(BadInput, match="random numbers"):
        last(Dynamics(friction=0.1, temperature=1.0), start(2), time=0.1, steps=1)


def test_a_path_to_the_edge_of_the_ball_is_stopped_with_its_step():
    with pytest.raises(FloatingPointError, match="by step 1 of 1e"):
        last(Dynamics(Well(1e8)), start(2), time=1e6, steps=1)
