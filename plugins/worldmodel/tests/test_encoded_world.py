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
from atlas_topoencoder.geometry import distance, expmap0
from atlas_topoencoder.model import TopoEncoder
from atlas_worldmodel.encoded_measurement import encoded_errors
from atlas_worldmodel.encoded_trajectories import (
    Encoded,
    ball_chart,
    latent_trajectories,
    open_encoder,
    seen_encoder,
)
from atlas_worldmodel.fields import FieldSizes
from atlas_worldmodel.spaces import Box, Discrete
from atlas_worldmodel.splitting import State, drift
from atlas_worldmodel.trajectories import Trajectories
from atlas_worldmodel.world_measurement import finite_steps
from atlas_worldmodel.world_state import load_world
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


def learned(data: Trajectories, steps: int) -> WorldFit:
    random = RandomStreams(1)
    model = model_on(ball_chart(data), data, FieldSizes(24, 12), bound_speed=False, random=random)
    settings = Schedule(steps=steps, batch_size=64, learning_rate=1e-2)
    fit = WorldFit(model, data, Objective(WORLD_TERMS.values(), {"world-reward": 0.0}), settings, random)
    while fit.step < steps:
        fit.advance()
    return fit


def test_a_world_foretells_points_that_are_known_by_a_fifth_of_what_copying_the_last_misses():
    """The points are the generator's own and frames what an atlas decodes of them, so that its floor is 0."""
    points, data = turning(60, 24, seed=1)
    fit = learned(latent_trajectories(points, data), 300)
    points, data = turning(20, 24, seed=2)
    atlas = atlas_of(5)
    with torch.no_grad():
        frames = atlas.decode(points.flatten(0, 1)).base.unflatten(0, points.shape[:2])
    test = Encoded(frames, frames, points, latent_trajectories(points, data))
    generator = torch.Generator().manual_seed(0)
    one, four = encoded_errors(fit.model.eval(), atlas, test, [1, 4], generator)
    assert four.floor < 1e-6
    assert four.distance < four.still / 5
    assert one.distance < one.still / 5
    assert 1e-5 < one.displaced < one.distance
    assert four.decoded < four.decoded_still / 2
    starts = test.latent.windows(4, stride=1)
    rows, at = torch.from_numpy(starts).unbind(1)
    still = distance(points[rows, at + 1], points[rows, at + 5]).mean()
    assert four.still == pytest.approx(float(still), rel=1e-5)


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
