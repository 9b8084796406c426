"""A world learned in an encoder's ball: known points, encoded frames, and what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.checkpoint import encode_checkpoint
from atlas_topoencoder.geometry import distance, expmap0, mobius_add
from atlas_topoencoder.model import TopoEncoder
from atlas_worldmodel.encoded_decoding import coded
from atlas_worldmodel.encoded_measurement import encoded_errors
from atlas_worldmodel.encoded_trajectories import (
    Encoded,
    ball_chart,
    latent_trajectories,
    open_encoder,
    seen_encoder,
)
from atlas_worldmodel.encoded_world import EncodedWorld
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.frames import Acting
from atlas_worldmodel.observation_chart import chart_facts
from atlas_worldmodel.spaces import Box, Discrete
from atlas_worldmodel.splitting import State, drift
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_measurement import finite_steps
from atlas_worldmodel.world_state import encode_world, load_world
from atlas_worldmodel.world_terms import WORLD_TERMS
from atlas_worldmodel.world_training import Schedule, WorldFit, model_on

from atlas.errors import BadInput
from atlas.objective import Objective
from atlas.randomness import RandomStreams
from atlas.testing import Atlas


def recorded(frames: np.ndarray, actions: np.ndarray, space=None) -> Trajectories:
    count, steps = actions.shape[:2]
    return Trajectories(
        observations=frames.astype(np.float32),
        actions=actions,
        rewards=np.zeros((count, steps), np.float32),
        lengths=np.full(count, steps),
        terminated=np.zeros(count, bool),
        truncated=np.ones(count, bool),
        action_space=space or Box([-1.0] * actions.shape[-1], [1.0] * actions.shape[-1]),
        environment="by hand",
        generator="uniform",
        seed=0,
    )


def turning(count: int, steps: int, seed: int) -> tuple[torch.Tensor, Trajectories]:
    """Return points of the disc that turn and are pushed, `u' = .97 R u + .06 B a`, with what was done.

    They are at rest where nothing is done, and move some .4 a step.
    """
    draws = np.random.default_rng(seed)
    turn = 0.97 * np.array([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    push = 0.06 * np.array([[1.0, 0.3], [-0.5, 1.0]])
    u, did = 0.3 * draws.standard_normal((count, 2)), draws.uniform(-1, 1, (count, steps, 2))
    passed = [u]
    for action in did.swapaxes(0, 1):
        u = u @ turn.T + action @ push.T
        passed.append(u)
    frames = np.stack(passed, 1)
    return expmap0(torch.from_numpy(frames).float()), recorded(frames, did.astype(np.float32))


def test_latent_observations_are_points_and_velocities_of_arrival_with_two_actions():
    """The point comes back from the chart; a free flight back by the velocity ends in the point before."""
    points, data = turning(3, 6, seed=1)
    latent = latent_trajectories(points, data)
    assert latent.observations.shape == (3, 6, 4) and latent.actions.shape == (3, 5, 4)
    state = ball_chart(latent).state(torch.from_numpy(latent.observations))
    torch.testing.assert_close(state.z, points[:, 1:])
    back = drift(State(state.z, -state.w), 1.0)
    torch.testing.assert_close(back.z, points[:, :-1], atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(latent.actions[:, :, :2], data.actions[:, 1:])
    np.testing.assert_array_equal(latent.actions[:, :, 2:], data.actions[:, :-1])


def test_choices_become_rows_of_zeros_and_a_one_for_each_of_two_actions():
    frames = np.random.default_rng(0).standard_normal((2, 4, 2))
    data = recorded(frames, np.array([[[0], [1], [2]], [[2], [2], [0]]]), Discrete(3))
    latent = latent_trajectories(expmap0(torch.from_numpy(frames).float()), data)
    np.testing.assert_array_equal(latent.actions[0], [[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0]])


def atlas_of(features: int, latent: int = 2) -> TopoEncoder:
    architecture = Architecture(shape=[features], hidden=16, latent=latent, charts=3, codes=4, max_radius=3.0)
    return TopoEncoder(architecture, RandomStreams(4)).eval()


def untrained(data: Trajectories, stream: int):
    sizes = FieldSizes(24, 12)
    return model_on(ball_chart(data), data, sizes, bound_speed=False, stream=stream, random=RandomStreams(1))


def learned(data: Trajectories, steps: int, stream: int = 0) -> WorldFit:
    random, model = RandomStreams(1), untrained(data, stream)
    settings = Schedule(steps=steps, batch_size=64, learning_rate=1e-2)
    fit = WorldFit(model, data, Objective(WORLD_TERMS.values(), {"world-reward": 0.0}), settings, random)
    while fit.step < steps:
        fit.advance()
    return fit


@pytest.mark.parametrize(("stream", "one_part", "four_part"), [(0, 1 / 5, 1 / 5), (24, 1 / 8, 1 / 13)])
def test_a_world_foretells_points_that_are_known_by_a_part_of_what_copying_the_last_misses(
    stream, one_part, four_part
):
    """The points are the generator's own and frames what an atlas decodes of them, so that its floor is 0.

    Four ahead they are the floor and the ambition that were set for such points: with a medium the latter.
    """
    points, data = turning(60, 24, seed=1)
    fit = learned(latent_trajectories(points, data), 300, stream)
    points, data = turning(20, 24, seed=2)
    atlas = atlas_of(5)
    with torch.no_grad():
        frames = atlas.decode(coded(atlas, points.flatten(0, 1))).base.unflatten(0, points.shape[:2])
    test = Encoded(frames, frames, points, latent_trajectories(points, data))
    generator = torch.Generator().manual_seed(0)
    one, four = encoded_errors(fit.model.eval(), atlas, test, [1, 4], generator)
    assert four.floor < 1e-6
    assert four.distance < four.still * four_part
    assert one.distance < one.still * one_part
    assert 1e-5 < one.displaced < one.distance
    assert four.decoded < four.decoded_still / 2
    starts = test.latent.windows(4, stride=1)
    rows, at = torch.from_numpy(starts).unbind(1)
    still = distance(points[rows, at + 1], points[rows, at + 5]).mean()
    assert four.still == pytest.approx(float(still), rel=1e-5)


def in_a_medium(friction: float) -> tuple[EncodedWorld, Trajectories]:
    """Return an untrained world in a medium that streams at a usual speed, and trajectories."""
    points, data = turning(6, 8, seed=1)
    latent = latent_trajectories(points, data)
    world = untrained(latent, 16)
    assert isinstance(world, EncodedWorld)
    world.medium.last.weight.data.mul_(50)
    world.fields.rubbing.data.fill_((100 * friction) ** 0.5)
    return world, latent


def free(z: torch.Tensor, actions: int = 4) -> Acting:
    """Return that nothing acts at points."""
    return Acting(torch.zeros_like(z), z.new_zeros(*z.shape, actions), None, z.new_zeros(len(z)))


@torch.no_grad()
def test_without_friction_a_medium_changes_nothing():
    """The oracle is the step without a medium, with the action's impulse before the flight."""
    world, data = in_a_medium(friction=0.0)
    plain = untrained(data, 0)
    own = {n: t for n, t in world.state_dict().items() if not n.startswith("medium.")}
    plain.load_state_dict(own)
    first, actions = torch.from_numpy(data.observations[:, 0]), torch.from_numpy(data.actions)
    begin = world.begin(first)
    found, expected = (model.roll(world.act, begin, actions) for model in (world, plain))
    assert float(distance(found.states.z[:, -1], begin.z).min()) > 0.01
    # float32: the same sums in another order, seven steps
    torch.testing.assert_close(found.states.z, expected.states.z, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.states.w, expected.states.w, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_where_friction_is_great_and_nothing_acts_points_follow_the_stream_whatever_their_velocity():
    world, data = in_a_medium(friction=50.0)
    z = torch.from_numpy(data.observations[:, 0, :2]) / 4
    for w in (torch.zeros_like(z), torch.ones_like(z)):
        path = world.roll(free, State(z, w), torch.zeros(len(z), 2, 4))
        one = mobius_add(z, expmap0(world.stream(z) / 2))
        two = mobius_add(one, expmap0(world.stream(one) / 2))
        assert float(distance(one, z).min()) > 0.01
        torch.testing.assert_close(path.states.z, torch.stack((one, two), 1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_points_that_a_medium_carries_out_of_what_float32_bears_stay_at_radius_6():
    world, data = in_a_medium(friction=50.0)
    world.medium.last.bias.data.fill_(40.0)
    path = world(torch.from_numpy(data.observations[:, 0]), torch.zeros(len(data.observations), 30, 4))
    assert path.states.z.isfinite().all() and path.rewards.isfinite().all()
    radius = distance(path.states.z[:, -1], torch.zeros_like(path.states.z[:, -1]))
    torch.testing.assert_close(radius, torch.full_like(radius, 6.0), atol=1e-3, rtol=0)


@torch.no_grad()
def test_what_is_observed_of_a_state_in_a_medium_is_what_it_began_with():
    world, data = in_a_medium(friction=0.7)
    seen = torch.from_numpy(data.observations[:, 0]).double()
    state = world.double().begin(seen)
    acting = world.act(state.z)
    assert acting.field is not None and float(acting.field.abs().max()) > 0.01
    torch.testing.assert_close(world.observe(state, acting), seen, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_work_of_actions_and_heat_of_the_medium_are_all_the_energy_that_comes_in_without_a_potential():
    world, data = in_a_medium(friction=0.7)
    turn = torch.tensor([[0.0, 0.3], [-0.3, 0.0]])
    drive = 0.2 * torch.from_numpy(np.random.default_rng(0).standard_normal((2, 4))).float()
    first = world.begin(torch.from_numpy(data.observations[:, 0]))

    def forces(z: torch.Tensor) -> Acting:
        return free(z)._replace(drive=drive.expand(len(z), 2, 4), field=turn.expand(len(z), 2, 2))

    path = world.roll(forces, first, torch.from_numpy(data.actions))
    came = path.energies[:, 1:] - path.energies[:, :1]
    assert float(path.heat.abs().min()) > 1e-4 and float(path.work.abs().mean()) > 1e-2
    torch.testing.assert_close(came, path.work + path.heat, atol=1e-5, rtol=1e-4)


def test_the_force_of_a_world_in_a_medium_is_minus_the_gradient_of_its_potential():
    world, data = in_a_medium(friction=3.0)
    z = world.begin(torch.from_numpy(data.observations[:, 0])).z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(world.energy(State(z, torch.zeros_like(z))).sum(), z)
    expected = -slope * (1 - z.square().sum(-1, keepdim=True)) / 2  # a covector in the orthonormal frame
    torch.testing.assert_close(world.act(z).pull, expected, atol=1e-6, rtol=1e-4)


def test_friction_is_unlearned_where_a_point_does_not_say_its_velocity():
    """Points fly freely through one place in all directions: a law of first order knows nothing of them."""
    draws = torch.Generator().manual_seed(0)
    state = State(0.1 * torch.randn(80, 2, generator=draws), 0.2 * torch.randn(80, 2, generator=draws))
    passed = [state.z]
    for _ in range(6):
        state = drift(state, 1.0)
        passed.append(state.z)
    points = torch.stack(passed, 1)
    latent = latent_trajectories(points, recorded(points.numpy(), np.zeros((80, 6, 1), np.float32)))
    before = untrained(latent, 24).fields.friction
    world = learned(latent, 300, 24).model.eval()
    with torch.no_grad():
        path = world(torch.from_numpy(latent.observations[:, 0]), torch.from_numpy(latent.actions[:, :4]))
    off, still = (distance(p, points[:, 2:6]).mean() for p in (path.states.z, points[:, 1:2]))
    assert off < still / 10
    assert world.fields.friction < before / 10


def test_a_world_in_a_medium_opens_from_its_file_and_goes_the_same_way(tmp_path):
    world, data = in_a_medium(friction=3.0)
    facts = {"coordinates": chart_facts(world.chart), "hidden": 24, "field": 12, "stream": 16}
    path = tmp_path / "world.safetensors"
    path.write_bytes(encode_world({f"model.{n}": t for n, t in world.state_dict().items()}, facts))
    first, actions = torch.from_numpy(data.observations[:, 0]), torch.from_numpy(data.actions)
    with torch.no_grad():
        expected, found = (model(first, actions).states.z for model in (world, load_world(path)))
    assert torch.equal(found, expected)


def test_points_get_the_codes_that_the_encoder_gives_them_where_charts_are_scored_without_features():
    atlas = atlas_of(5)
    atlas.router.feature_query.weight.data.zero_()
    with torch.no_grad():
        encoding = atlas.encode(torch.randn(40, 5, generator=torch.Generator().manual_seed(0)))
        found = coded(atlas, encoding.v)
    assert float(distance(encoding.v, encoding.z_geo).mean()) > 0.1
    torch.testing.assert_close(found, encoding.z_geo, atol=1e-5, rtol=1e-5)


def test_the_units_of_the_ball_are_not_learned():
    points, data = turning(8, 12, seed=1)
    chart = learned(latent_trajectories(points, data), 3).model.chart
    assert torch.equal(chart.rate, torch.ones(2)) and torch.equal(chart.length, torch.ones(2))


def test_windows_grow_evenly_from_one_action_to_the_horizon_and_stay():
    schedule = Schedule(steps=100, horizon=5, grow=0.5)
    assert [schedule.horizon_at(step) for step in (0, 9, 10, 39, 40, 50, 99)] == [1, 1, 2, 4, 5, 5, 5]
    assert Schedule(steps=100, horizon=5).horizon_at(0) == 5


def test_steps_count_as_finite_until_the_first_at_which_one_path_is_not():
    values = torch.tensor([[0.0, 1, 2, 3, 4], [0, 1, math.inf, 3, 4], [0, 1, 2, math.nan, 4]])
    assert [finite_steps(values[:rows]) for rows in (1, 2)] == [5, 2]
    assert finite_steps(values[2:]) == 3


def kept(folder, atlas: TopoEncoder, facts) -> Path:
    tensors = {f"model.{name}": value for name, value in atlas.state_dict().items()}
    path = folder / "checkpoint0.safetensors"
    path.write_bytes(encode_checkpoint(tensors, atlas.architecture, facts))
    return path


def test_frames_of_images_go_through_the_encoder_as_it_was_trained_on_them(tmp_path):
    """The points are those of the encoder by itself, on frames divided by 4 and shaped as an image."""
    draws = np.random.default_rng(3)
    frames = draws.uniform(0, 4, (5, 7, 16))
    data = recorded(frames, draws.uniform(-1, 1, (5, 6, 1)).astype(np.float32))
    architecture = Architecture(shape=[1, 4, 4], hidden=8, latent=2, charts=2, codes=3)
    atlas = TopoEncoder(architecture, RandomStreams(4)).eval()
    encoder = open_encoder(kept(tmp_path, atlas, {"divide_by": 4.0}), data, where="here")
    known, _ = data.split(0.2, RandomStreams(int(data.digest[:15], 16)).generator("split"))
    found = encoder.encode(encoder.parts.train, known)
    assert found.frames.shape == (4, 7, 1, 4, 4)
    image = torch.from_numpy(known.observations[2, 3] / np.float32(4)).reshape(1, 1, 4, 4)
    with torch.no_grad():
        encoding = atlas.encode(image)
        torch.testing.assert_close(found.points[2, 3], encoding.v[0])
        torch.testing.assert_close(found.rebuilt[2, 3], atlas.decode(encoding.z_geo).base[0])


def test_an_encoder_of_examples_of_another_size_is_refused(tmp_path):
    _, data = turning(5, 6, seed=1)
    path = kept(tmp_path, atlas_of(3), {"divide_by": 1.0})
    with pytest.raises(BadInput, match="reads examples of 3 numbers, and observations have 2"):
        open_encoder(path, data, where="here")


def test_an_encoder_whose_phase_saw_other_trajectories_is_refused(tmp_path):
    _, data = turning(5, 6, seed=1)
    path = kept(tmp_path, atlas_of(2), {"phase": 1, "trajectories": "another"})
    with pytest.raises(BadInput, match="trained on other trajectories than the step sees"):
        open_encoder(path, data, where="here")


MANIFEST = """atlas: 1
name: encoded
lineage: WME
seed: 3
governance: none
steps:
  - {id: data, use: collect, params: {environment: Pendulum-v1, transitions: 300, steps: 30}}
  - id: atlas
    use: phase1
    sees: [{from: data.raw}]
    params:
      model: {hidden: 8, latent: 2, charts: 2, codes: 3}
      schedule: {steps: 10, warmup: 4, batch_size: 32}
  - id: world
    use: worldmodel
    sees: [{from: data.raw}, {from: atlas.raw}]
    params:
      coordinates: encoded
      model: {hidden: 8, field: 4}
      schedule: {steps: 20, batch_size: 32}
      horizons: [1, 5]
      free_steps: 5
"""


@pytest.mark.slow
def test_a_manifest_learns_a_world_in_the_ball_of_an_atlas_and_decodes_its_open_loop(tmp_path: Path):
    atlas = Atlas(tmp_path, {})
    atlas.write("m.yaml", MANIFEST)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    run = atlas.runs()[0]
    rows = atlas.view(run.name).tables("world")["encoded"]
    assert [row["horizon"] for row in rows] == [1, 5]
    assert all(row["floor"] > 0 for row in rows)
    assert "what the encoder makes of the frames" in (run / "report.html").read_text("utf-8")
    world = load_world(run / "raw" / "world" / "world.safetensors")
    assert isinstance(world, EncodedWorld)
    assert world.chart.dimension == 2 and torch.equal(world.chart.rate.detach(), torch.ones(2))


def test_the_pages_manifest_is_sound(tmp_path: Path):
    page = (Path(__file__).parents[3] / "docs" / "worldmodel.md").read_text("utf-8")
    (example,) = re.findall(r"<!-- encoded -->\n```yaml\n(.*?)```", page, re.S)
    atlas = Atlas(tmp_path, {})
    atlas.write("example.yaml", example)
    assert atlas("plan", "example.yaml").code == 0


def test_a_step_that_sees_no_encoder_is_refused():
    _, data = turning(5, 6, seed=1)
    with pytest.raises(BadInput, match="sees 0 checkpoints of a TopoEncoder, expected one"):
        seen_encoder(SimpleNamespace(step="world", inputs={}), data)
