"""A learned world: its forces, its step, its density, and the instrument that trains it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_topoencoder.geometry import distance
from atlas_worldmodel.fields import FieldHead, FieldSizes
from atlas_worldmodel.frames import Acting
from atlas_worldmodel.integrator import Dynamics, begin, step
from atlas_worldmodel.model import WorldModel
from atlas_worldmodel.observation_chart import (
    ObservationChart,
    chart_facts,
    coordinates_of,
    embed,
    normal_coordinates,
)
from atlas_worldmodel.spaces import Box
from atlas_worldmodel.splitting import State
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.twoforms import exterior_derivative
from atlas_worldmodel.world_measurement import errors
from atlas_worldmodel.world_state import encode_world, load_world
from atlas_worldmodel.world_terms import WORLD_TERMS, wrapped_normal
from atlas_worldmodel.world_training import Schedule, WorldFit, fitted_model
from attrs import evolve

from atlas.errors import BadInput, InstrumentFailed
from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas.testing import Atlas

PLANE = [{"position": 0, "velocity": 2}, {"position": 1, "velocity": 3}]
PENDULUM = [{"cosine": 0, "sine": 1, "velocity": 2}]


def model_of(coordinates, observations, field=0, mass=None):
    chart = ObservationChart(coordinates_of(coordinates, observations.shape[-1]), observations)
    sizes, random = FieldSizes(16, field), RandomStreams(1)
    model = WorldModel(chart, 1, sizes, speed=None, unit=0.1, random=random, masses=mass is not None).double()
    if mass is not None:
        model.weigh(torch.tensor(mass, dtype=torch.float64))
    return model


@pytest.fixture(scope="module")
def plane():
    draws = torch.Generator().manual_seed(0)
    return model_of(PLANE, torch.randn(4, 9, 4, generator=draws), field=8)


@pytest.fixture(scope="module")
def heavy():
    """A plane whose second axis weighs four times as much as its first."""
    draws = torch.Generator().manual_seed(0)
    return model_of(PLANE, torch.randn(4, 9, 4, generator=draws), field=8, mass=[1.0, 4.0])


def points(size):
    draws = torch.Generator().manual_seed(2)
    u = torch.randn(20, size, generator=draws, dtype=torch.float64)
    return embed(u, torch.randn(20, size, generator=draws, dtype=torch.float64))


def test_the_conservative_force_is_minus_the_gradient_of_what_is_called_potential(plane):
    state = points(2)
    z = state.z.requires_grad_()
    u, _ = normal_coordinates(State(z, z))
    (slope,) = torch.autograd.grad(plane.fields.potential(plane.chart, u).sum(), z)
    in_frame = -slope * (1 - z.square().sum(-1, keepdim=True)) / 2
    torch.testing.assert_close(plane.act(z.detach()).pull, in_frame, rtol=1e-9, atol=1e-12)


def test_the_field_is_the_derivative_of_its_one_form():
    head = FieldHead(3, 8).double()
    z = 0.3 * torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(head(z), exterior_derivative(head.one_form, z), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("system", ["plane", "heavy"])
def test_without_friction_a_frame_is_the_step_of_the_integrator(system, request):
    model, state = request.getfixturevalue(system), points(2)
    model.fields.rubbing.data.zero_()
    with torch.no_grad():
        path = model.roll(model.act, state, torch.zeros(20, 1, 1, dtype=torch.float64))

    def potential(z):
        return model.fields.potential(model.chart, normal_coordinates(State(z, z))[0])

    dynamics = Dynamics(potential, model.fields.field, mass=model.mass)
    with torch.no_grad():
        after = step(dynamics, begin(dynamics, state), 1.0).state
    model.fields.rubbing.data.fill_(0.3)
    torch.testing.assert_close(path.states.z[:, 0], after.z, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(path.states.w[:, 0], after.w, rtol=1e-9, atol=1e-11)


def pendulum():
    angle = torch.linspace(-3, 3, 9, dtype=torch.float64)
    seen = torch.stack((angle.cos(), angle.sin(), 2 * angle), -1)
    model = model_of(PENDULUM, seen[None])
    model.bounded, model.speed = True, torch.tensor([3.0], dtype=torch.float64)
    return model, seen


@pytest.mark.parametrize("system", ["plane", "heavy", "pendulum"])
def test_frames_together_have_the_values_and_the_gradients_of_frames_in_a_row(system, request):
    """The oracle is autograd through `roll`; a fifth of the differences is rounding over a path of eight."""
    if system == "pendulum":
        model, first = pendulum()
    else:
        model, first = request.getfixturevalue(system), torch.randn(9, 4).double()
    draws = torch.Generator().manual_seed(4)
    actions = torch.randn(9, 8, 1, generator=draws, dtype=torch.float64, requires_grad=True)
    first.requires_grad_()
    given = (first, actions, *model.parameters())

    def measured(path):
        parts = (*path.states, *path[1:])
        draws = torch.Generator().manual_seed(6)
        weights = [torch.randn(part.shape, generator=draws, dtype=part.dtype) for part in parts]
        total = sum((weight * part).sum() for weight, part in zip(weights, parts, strict=True))
        return parts, torch.autograd.grad(total, given, allow_unused=True)

    together = measured(model(first, actions))
    in_a_row = measured(model.roll(model.act, model.begin(first), actions))
    torch.testing.assert_close(together[0], in_a_row[0], rtol=1e-11, atol=1e-12)
    for one, other in zip(together[1], in_a_row[1], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_the_gradient_of_a_path_is_that_of_finite_differences():
    model, seen = pendulum()
    actions = torch.zeros(2, 3, 1, dtype=torch.float64, requires_grad=True)
    first = seen[[3, 6]].requires_grad_()
    weight = model.fields.value.first.weight

    def path(first, actions, _):
        return model(first, actions).observations

    assert torch.autograd.gradcheck(path, (first, actions, weight), eps=1e-6, atol=1e-6)
    with pytest.raises(BadInput, match="cannot itself be differentiated"):
        torch.autograd.grad(model(first, actions).observations.sum(), actions, create_graph=True)


def test_with_lag_one_half_and_lead_one_a_frame_is_that_of_euler_and_cromer():
    model, seen = pendulum()
    chart = model.chart
    for parameter, value in ((model.lag, 0.5), (model.lead, 1.0), (model.fields.rubbing, 0.0)):
        parameter.data.fill_(value)
    chart.rate.data.fill_(1.0)
    actions = torch.randn(9, 20, 1, generator=torch.Generator().manual_seed(8), dtype=torch.float64)

    def forces(z):
        pull = 0.3 * torch.sin(2 * torch.atanh(z) * chart.length) / chart.length
        return Acting(pull, 0.2 / chart.length.expand(9, 1, 1), None, z[:, 0])

    state = chart.state(seen)
    path = model.roll(forces, State(state.z, state.w + forces(state.z).pull / 2), actions)
    angle, speed = torch.atan2(seen[:, 1], seen[:, 0]), seen[:, 2]
    for frame in range(20):
        speed = (speed + 0.3 * angle.sin() + 0.2 * actions[:, frame, 0]).clamp(-3, 3)
        angle = angle + speed
        true = torch.stack((angle.cos(), angle.sin(), speed), -1)
        torch.testing.assert_close(path.observations[:, frame], true, rtol=1e-9, atol=1e-9)


def test_what_is_observed_of_a_state_is_what_it_began_with_whatever_it_weighs(heavy):
    seen = torch.randn(30, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        state = heavy.begin(seen)
        torch.testing.assert_close(heavy.observe(state, heavy.act(state.z)), seen, rtol=1e-9, atol=1e-9)


def test_without_friction_and_bound_nothing_is_heat_whatever_a_flight_misses(heavy):
    heavy.fields.rubbing.data.zero_()
    draws = torch.Generator().manual_seed(4)
    seen, actions = (
        torch.randn(size, generator=draws, dtype=torch.float64) for size in ((30, 4), (30, 5, 1))
    )
    with torch.no_grad():
        path = heavy(seen, actions)
    missed = path.energies[:, 1:] - path.energies[:, :1] - path.work
    assert float(path.heat.abs().max()) < 1e-12 * float(path.energies.abs().max())
    assert float(missed.abs().max()) > 1e-4


def test_an_observation_comes_back_from_its_state(plane):
    seen = torch.randn(30, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(plane.chart.observation(plane.chart.state(seen)), seen, rtol=1e-9, atol=1e-9)
    angle = torch.linspace(-3, 3, 9, dtype=torch.float64)
    seen = torch.stack((angle.cos(), angle.sin(), 2 * angle), -1)
    chart = model_of(PENDULUM, seen[None]).chart
    torch.testing.assert_close(chart.observation(chart.state(seen)), seen, rtol=1e-9, atol=1e-9)


def test_points_on_both_sides_of_where_an_angle_closes_are_near():
    model, _ = pendulum()
    ends = torch.tensor([[3.1], [-3.1]], dtype=torch.float64)
    seen = torch.cat((ends.cos(), ends.sin(), 0 * ends), -1)
    z = model.chart.state(seen).z
    apart = distance(model.chart.beside(z[:1], z[1:]), z[1:])
    assert float(apart * model.chart.length) == pytest.approx(2 * np.pi - 6.2, rel=1e-9)
    torch.testing.assert_close(model.chart.beside(z, z), z, rtol=1e-14, atol=0)


def test_the_wrapped_normal_integrates_to_one():
    """By polar coordinates about the origin: the area element is sinh r dr dphi."""
    r, phi = torch.linspace(0, 9, 1501, dtype=torch.float64), torch.arange(60) * (2 * torch.pi / 60)
    z = torch.tanh(r / 2)[:, None, None] * torch.stack((phi.cos(), phi.sin()), -1)
    center = torch.tensor([0.3, -0.2], dtype=torch.float64)
    density = wrapped_normal(z, center, torch.tensor(0.7, dtype=torch.float64)).exp()
    mass = torch.trapezoid(density.mean(1) * 2 * torch.pi * r.sinh(), r)
    assert abs(float(mass) - 1) < 1e-4  # trapezoid of step .006; it is 3e-6 off


def pendulums(count=12, steps=40):
    draws = np.random.default_rng(1)
    angle, speed = draws.uniform(-3, 3, count), draws.uniform(-1, 1, count)
    seen, torques = [], draws.uniform(-2, 2, (count, steps))
    for t in range(steps + 1):
        seen.append(np.stack([np.cos(angle), np.sin(angle), speed], -1))
        if t < steps:
            speed = speed + 0.05 * (15 * np.sin(angle) + 3 * torques[:, t])
            angle = angle + 0.05 * speed
    return Trajectories(
        observations=np.stack(seen, 1).astype(np.float32),
        actions=torques.astype(np.float32)[..., None],
        rewards=np.zeros((count, steps), np.float32),
        lengths=np.full(count, steps),
        terminated=np.zeros(count, bool),
        truncated=np.ones(count, bool),
        action_space=Box((-2.0,), (2.0,)),
        environment="pendulums",
        generator="uniform",
        seed=1,
    )


def fit_of(data, steps, **schedule):
    random = RandomStreams(3)
    model = fitted_model(coordinates_of(PENDULUM, 3), data, FieldSizes(24), bound_speed=False, random=random)
    settings = Schedule(steps=steps, batch_size=64, **schedule)
    return WorldFit(model, data, Objective(WORLD_TERMS.values(), {"world-reward": 0.0}), settings, random)


def test_training_finds_the_time_of_velocities_and_of_actions_in_a_frame():
    """The simulator moves by the new velocity: `lag` 1/2 and `lead` 1, whatever the potential is."""
    fit = fit_of(pendulums(), 400, learning_rate=3e-3)
    while fit.step < 400:
        fit.advance()
    assert float(fit.model.lag.detach()) == pytest.approx(0.5, abs=0.05)
    assert float(fit.model.lead.detach()) == pytest.approx(1.0, abs=0.05)


def test_a_training_that_was_restored_goes_on_to_the_same_bits():
    data = pendulums()
    whole, begun, later = (fit_of(data, 6) for _ in range(3))
    for _ in range(6):
        whole.advance()
    for _ in range(3):
        begun.advance()
    later.restore(begun.state(), 3)
    for _ in range(3):
        later.advance()
    assert all(torch.equal(t, later.state()[n]) for n, t in whole.state().items())


def test_every_term_trains_something():
    fit = fit_of(pendulums(), 1)
    for name in WORLD_TERMS:
        alone = {other: float(other == name) for other in WORLD_TERMS}
        fit.objective = Objective(WORLD_TERMS.values(), alone)
        fit.advance()
        fit.step = 0
        gradients = [p.grad for p in fit.model.parameters() if p.grad is not None]
        assert any(bool(g.abs().sum() > 0) for g in gradients), name


def test_an_exploding_momentum_is_stopped_with_the_step_and_the_term():
    fit = fit_of(pendulums(), 5)
    fit.model.fields.value.last.data.fill_(torch.inf)
    with pytest.raises(InstrumentFailed, match="world-observation is nan at step 0"):
        fit.advance()


def test_coordinates_that_leave_a_number_out_are_refused():
    with pytest.raises(BadInput, match=r"name the numbers \[0, 1, 2\] of an observation that has 4"):
        coordinates_of(PENDULUM, 4)


MANIFEST = """atlas: 1
name: world
lineage: WLD
seed: 3
governance: none
steps:
  - {id: data, use: collect, params: {environment: Pendulum-v1, transitions: 300, steps: 30}}
  - id: world
    use: worldmodel
    sees: [{from: data.raw}]
    params:
      coordinates: [{cosine: 0, sine: 1, velocity: 2}]
      model: {hidden: 16}
      schedule: {steps: 30, batch_size: 32}
      horizons: [1, 5]
      free_steps: 20
"""


def test_a_manifest_trains_and_keeps_errors_pictures_and_the_world(tmp_path):
    atlas = Atlas(tmp_path, {})
    atlas.write("m.yaml", MANIFEST)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    run = atlas.runs()[0]
    tables = atlas.view(run.name).tables("world")
    assert [row["horizon"] for row in tables["open-loop"]] == [1, 5]
    assert "What the world model foretells" in (run / "report.html").read_text("utf-8")
    world = load_world(run / "raw" / "world" / "world.safetensors")
    rows = [row for row in tables["paths"] if row["trajectory"] == 0 and row["step"] == 1]
    assert len(rows) == 3
    assert world.chart.dimension == 1


def test_a_horizon_longer_than_the_data_is_refused():
    data = pendulums()
    with pytest.raises(BadInput, match="an open loop of 50 steps does not fit trajectories of 40"):
        errors(fit_of(data, 1).model, data, [1, 50], torch.Generator())


@pytest.mark.slow
def test_a_path_is_one_graph():
    model = fit_of(pendulums(), 1).model
    first, actions = torch.from_numpy(pendulums().observations[:, 0]), torch.zeros(12, 2, 1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(first, actions).observations, model(first, actions).observations)


def test_masses_follow_the_slopes_of_the_potential_and_are_kept(tmp_path):
    random = RandomStreams(3)
    draws = np.random.default_rng(0)
    position = np.cumsum(draws.normal(size=(6, 30, 2)), 1).astype(np.float32)
    seen = np.concatenate([position, np.diff(position, axis=1, prepend=0)], -1).astype(np.float32)
    data = evolve(
        pendulums(6, 29), observations=seen, actions=np.zeros((6, 29, 1), np.float32), environment="plane"
    )
    model = fitted_model(
        coordinates_of(PLANE, 4), data, FieldSizes(8), bound_speed=True, random=random, masses=True
    )
    fit = WorldFit(model, data, Objective(WORLD_TERMS.values()), Schedule(steps=30, batch_size=16), random)
    while fit.step < 30:
        before = fit.metric.clone()
        fit.advance()
    torch.testing.assert_close(model.mass, before / before.mean())
    assert float((model.mass - 1).abs().max()) > 1e-3
    facts = {"coordinates": chart_facts(model.chart), "hidden": 8, "field": 0}
    (tmp_path / "world").write_bytes(
        encode_world({f"model.{n}": t for n, t in model.state_dict().items()}, facts)
    )
    torch.testing.assert_close(load_world(tmp_path / "world").mass, model.mass)
