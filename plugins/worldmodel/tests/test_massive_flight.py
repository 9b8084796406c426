"""Masses for the axes, against Hamilton's equations by another integrator, and against what must be kept."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from atlas_worldmodel.integrator import Dynamics, simulate
from atlas_worldmodel.massive_flight import _along, massive_flight
from atlas_worldmodel.potentials import Well, gradient, radius
from atlas_worldmodel.splitting import State, drift
from atlas_worldmodel.twoforms import UniformField
from scipy.integrate import quad, solve_ivp

from atlas.errors import BadInput

FLOAT = torch.float64
MASS = torch.tensor([0.5, 1.0, 4.0], dtype=FLOAT)
START = State(torch.tensor([0.3, -0.4, 0.2], dtype=FLOAT), torch.tensor([0.9, 0.5, -1.1], dtype=FLOAT))


def factor(z: np.ndarray) -> float:
    """lambda(z)."""
    return 2 / (1 - float(z @ z))


def momenta(state: State, mass: torch.Tensor = MASS) -> torch.Tensor:
    """`p = m lambda^2 dz/dt` of the state."""
    return mass.sqrt() * 2 / (1 - state.z.square().sum(-1, keepdim=True)) * state.w


def exact(state: State, time: float, axes: list[int], dynamics: Dynamics | None = None) -> State:
    """The flow of those axes' parts of the kinetic energy by Hamilton's equations, DOP853 at 1e-13.

    Potential and field act too where dynamics are given: `dp = -d potential + F dz`.
    """
    mass = MASS.numpy()

    def slope(_: float, both: np.ndarray) -> np.ndarray:
        z, p = np.split(both, 2)
        part = np.zeros(3)
        part[axes] = 1
        speed = part * p / mass / factor(z) ** 2
        force = (part * p * p / mass).sum() / 2 * (1 - z @ z) * z  # d(1 / lambda^2) / dz = -(1 - |z|^2) z
        if dynamics is not None:
            at = torch.from_numpy(z)
            force = force - gradient(dynamics.potential, at).numpy() + dynamics.field(at).numpy() @ speed
        return np.concatenate([speed, force])

    begin = np.concatenate([state.z.numpy(), momenta(state).numpy()])
    found = solve_ivp(slope, (0, time), begin, method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    z, p = found[:3], found[3:]
    return State(torch.from_numpy(z), torch.from_numpy(p / np.sqrt(mass) / factor(z)))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("time", [1e-6, 0.7, -0.7])
def test_the_flow_of_one_axis_solves_hamiltons_equations(axis, time):
    found, expected = _along(START, MASS, axis, time), exact(START, time, [axis])
    torch.testing.assert_close(torch.cat(found), torch.cat(expected), rtol=0, atol=1e-11)


def test_flight_is_right_to_second_order():
    """Oracle: Hamilton's equations of all axes; with equal masses, also the exact geodesic."""
    ends = [(MASS, exact(START, 1.0, [0, 1, 2])), (torch.ones(3, dtype=FLOAT), drift(START, 1.0))]
    for mass, expected in ends:
        errors = []
        for steps in (20, 40, 80):
            state = START
            for _ in range(steps):
                state = massive_flight(state, mass, 1.0 / steps)
            errors.append(float((torch.cat(state) - torch.cat(expected)).norm()))
        slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
        assert all(abs(slope - 2) < 0.05 for slope in slopes), slopes


def test_a_step_with_potential_and_field_is_right_to_second_order():
    dynamics = Dynamics(Well(1.0, (0.3, -0.2, 0.1)), UniformField(1.0), mass=MASS)
    expected, errors = exact(START, 1.0, [0, 1, 2], dynamics), []
    for steps in (20, 40, 80):
        *_, moment = simulate(dynamics, START, time=1.0 / steps, steps=steps, every=steps)
        errors.append(float((torch.cat(moment.state) - torch.cat(expected)).norm()))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(slope - 2) < 0.05 for slope in slopes), slopes


def test_flight_is_symplectic():
    """Its Jacobian in points and momenta has `J^T Omega J = Omega`."""

    def moved(both: torch.Tensor) -> torch.Tensor:
        z, p = both[:3], both[3:]
        root = MASS.sqrt() * 2 / (1 - z.square().sum())
        after = massive_flight(State(z, p / root), MASS, 0.8)
        return torch.cat((after.z, momenta(after)))

    jacobian = torch.autograd.functional.jacobian(moved, torch.cat((START.z, momenta(START))))
    unit, none = torch.eye(3, dtype=FLOAT), torch.zeros(3, 3, dtype=FLOAT)
    omega = torch.cat((torch.cat((none, unit), 1), torch.cat((-unit, none), 1)))
    torch.testing.assert_close(jacobian.T @ omega @ jacobian, omega, rtol=0, atol=1e-12)


def test_a_path_with_masses_keeps_its_energy_to_second_order_and_runs_back():
    dynamics = Dynamics(Well(1.0, (0.3, -0.2, 0.1)), UniformField(2.0), mass=MASS)
    drifts = []
    for time in (0.05, 0.025):
        path = [moment.state for moment in simulate(dynamics, START, time=time, steps=round(20 / time))]
        energies = torch.stack([dynamics.energy(state) for state in path])
        drifts.append(float((energies / energies[0] - 1).abs().max()))
    assert drifts[0] < 2e-3
    assert 3.5 < drifts[0] / drifts[1] < 4.5
    *_, back = simulate(dynamics.reversed(), path[-1].reversed(), time=0.025, steps=800, every=800)
    torch.testing.assert_close(torch.cat(back.state.reversed()), torch.cat(START), rtol=0, atol=1e-10)


def test_masses_change_the_law_of_velocities_and_not_that_of_points():
    """The Boltzmann law: each `w` has the variance T, so that dz/dt has `T / m`; points weigh by volume.

    Tolerance: four standard errors of the means of independent particles.
    """
    temperature, mass = 0.5, torch.tensor([0.25, 4.0], dtype=FLOAT)
    dynamics = Dynamics(Well(), friction=1.0, temperature=temperature, mass=mass)
    generator = torch.Generator().manual_seed(0)
    count = 20000
    state = State(*(0.3 * torch.randn(2, count, 2, generator=generator, dtype=FLOAT)).clamp(-0.6, 0.6))
    *_, moment = simulate(dynamics, state, time=0.1, steps=200, every=200, generator=generator)
    square = moment.state.w.square()
    error = square.std(0) / count**0.5
    assert ((square.mean(0) - temperature).abs() < 4 * error).all()

    def weight(r: float) -> float:
        return math.exp(-r * r / 2 / temperature) * math.sinh(r)

    mean = quad(lambda r: r * weight(r), 0, 12)[0] / quad(weight, 0, 12)[0]
    found = radius(moment.state.z)
    assert abs(float(found.mean()) - mean) < 4 * float(found.std()) / count**0.5
    along = moment.state.z.square()  # the law of points has no preferred axis, whatever the masses are
    assert float((along[:, 0] - along[:, 1]).mean().abs()) < 4 * float(
        (along[:, 0] - along[:, 1]).std() / count**0.5
    )


def test_a_mass_that_is_not_positive_is_refused():
    with pytest.raises(BadInput, match="masses"):
        Dynamics(mass=torch.tensor([1.0, 0.0]))
