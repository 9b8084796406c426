"""Agents: resumed bit for bit, improved by both ways, and run from a manifest."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from agent_desk import SMALL, require_the_same_bits, silent
from atlas_worldmodel.agent import Agent
from atlas_worldmodel.agent_checkpoint import load_actor
from atlas_worldmodel.agent_instrument import objective_of
from atlas_worldmodel.collection import Law, collect, play
from atlas_worldmodel.ensemble import transitions_of
from atlas_worldmodel.environments import open_environment
from atlas_worldmodel.policy_terms import POLICY_TERMS
from atlas_worldmodel.trajectory_files import read_trajectories
from attrs import evolve

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas.testing import Atlas


def agent(name: str = "Pendulum-v1", **changes) -> Agent:
    settings = evolve(SMALL, **changes)
    objective = objective_of(settings.improvement, {})
    return Agent(open_environment(name), settings, objective, RandomStreams(5), Law("held", 5))


@pytest.mark.parametrize(
    ("name", "improvement"), [("Pendulum-v1", "imagination"), ("CartPole-v1", "reinforce")]
)
def test_an_agent_that_goes_on_from_a_kept_state_ends_with_the_bits_of_one_that_was_not_interrupted(
    name, improvement
):
    require_the_same_bits(lambda: agent(name, improvement=improvement))


def test_the_ensemble_predicts_a_pendulum_that_it_has_not_seen_after_a_short_fit():
    """A tenth of the error of predicting no change, in each number, and a fifth of the rewards' variance."""
    one = agent(fit_steps=300, world_hidden=64, fit_batch=64)
    one.advance(silent)
    environment = open_environment("Pendulum-v1")
    unseen = collect(environment, transitions=200, law=Law("held", 5), random=RandomStreams(6))
    data = transitions_of(unseen)
    with torch.no_grad():
        after = one.world.step(data.observation, data.action)
    error = (after.state - data.following).square().mean(0)
    still = (data.observation - data.following).square().mean(0)
    assert (error < 0.1 * still).all()
    assert (after.reward - data.reward).square().mean() < 0.2 * data.reward.var()


def test_paths_stay_with_their_member_of_the_ensemble():
    """Each of six paths through two members is what its own member makes of it alone."""
    one = agent()
    one.advance(silent)
    state = torch.from_numpy(one.episodes[0].observations[:6])
    action = torch.linspace(-1, 1, 6)[:, None]
    with torch.no_grad():
        together = one.world.step(state, action)
        for path in range(6):
            alone = one.world.step(state[path].expand(2, -1), action[path].expand(2, -1))
            member = path // 3
            torch.testing.assert_close(alone.state[member], together.state[path])
            assert not torch.equal(alone.state[1 - member], together.state[path])


@pytest.mark.slow
def test_an_agent_swings_the_pendulum_up_after_a_thousand_blind_steps():
    """From these starts blind actions return -1200 or so, with a standard error of 50."""
    one = agent(
        round_transitions=1000,
        members=3,
        world_hidden=64,
        policy_hidden=32,
        fit_steps=500,
        fit_batch=64,
        improve_steps=500,
        improve_batch=48,
        horizon=16,
        rate=3e-3,
    )
    one.advance(silent)
    assert np.mean(one.returns(range(4))) > -250


@pytest.mark.slow
def test_reinforce_lets_the_cart_balance_its_pole_longer_than_blind_actions():
    """Blind actions hold it for about 22 steps, with a standard error of 4 over 8 starts."""
    one = agent(
        "CartPole-v1",
        improvement="reinforce",
        round_transitions=600,
        policy_hidden=32,
        improve_steps=50,
        rate=0.01,
        discount=0.97,
    )
    for _ in range(30):
        one.advance(silent)
    assert np.mean(one.returns(range(8))) > 40


MANIFEST = """
atlas: 1
name: small
lineage: AG
seed: 3
governance: none
steps:
  - id: agent
    use: agent
    params:
      environment: Pendulum-v1
      rounds: 2
      repetitions: 2
      evaluation: {starts: 2}
      learning: {members: 2, world_hidden: 8, policy_hidden: 8, fit_steps: 10, improve_steps: 3,
        improve_batch: 4, horizon: 3, blind_rounds: 1}
  - id: data
    use: collect
    params: {environment: Pendulum-v1, transitions: 150, steps: 50}
"""


MECHANICAL = (
    MANIFEST[: MANIFEST.index("  - id: agent")]
    + """  - {id: data, use: collect, params: {environment: Pendulum-v1, transitions: 200, steps: 50}}
  - id: world
    use: worldmodel
    sees: [{from: data.raw}]
    params:
      coordinates: [{cosine: 0, sine: 1, velocity: 2}]
      model: {hidden: 8}
      schedule: {steps: 10, batch_size: 32}
      horizons: [1]
      free_steps: 5
  - id: agent
    use: agent
    sees: [{from: data.raw}, {from: world.raw}]
    params:
      environment: Pendulum-v1
      world: mechanical
      rounds: 2
      repetitions: 2
      evaluation: {starts: 2}
      learning: {policy_hidden: 8, improve_steps: 3, improve_batch: 4, horizon: 3}
"""
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """A finished run of the small manifest in its folder."""
    atlas = Atlas(tmp_path_factory.mktemp("agents"), {})
    atlas.write("m.yaml", MANIFEST)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    return atlas


def test_a_manifest_trains_agents_and_keeps_returns_weights_and_trajectories(done: Atlas):
    run = done.runs()[0]
    tables = done.view(run.name).tables("agent")
    assert len(tables["returns"]) == 2 * 2 * 2
    assert {row["environment_steps"] for row in tables["returns"]} == {200, 400}
    final = next(q for q in done.show(run.name)["quantities"] if q["quantity"] == "final_return")
    assert final["num_samples"] == 2
    assert read_trajectories(run / "raw" / "data" / "trajectories.npz").transitions == 150
    assert "What the agents learned" in (run / "report.html").read_text("utf-8")


def test_an_agent_opened_from_its_file_returns_what_was_recorded(done: Atlas):
    run = done.runs()[0]
    facts = json.loads((run / "raw" / "agent" / "facts.json").read_text("utf-8"))
    start = int(facts["start.seeds"].split()[1])
    actor = load_actor(run / "raw" / "agent" / "agent1.safetensors")
    again = play(open_environment("Pendulum-v1"), actor, steps=200, seed=start)
    returns = done.view(run.name).tables("agent")["returns"]
    last = next(r for r in returns if (r["repetition"], r["round"], r["start"]) == (1, 2, 1))
    assert float(again.rewards.sum(dtype=np.float64)) == last["return"]


def test_the_page_says_what_is_so(done: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its Python runs, its manifest is sound, and its weights of loss terms are the defaults."""
    page = (Path(__file__).parents[3] / "docs" / "agent.md").read_text("utf-8")
    weights = dict(re.findall(r"^\| `(policy-\w+)` \| ([\d.]+) \|", page, re.M))
    assert {n: float(w) for n, w in weights.items()} == {n: t.default_weight for n, t in POLICY_TERMS.items()}
    shutil.copy(done.runs()[0] / "raw" / "agent" / "agent0.safetensors", tmp_path)
    monkeypatch.chdir(tmp_path)
    for snippet in re.findall(r"<!-- python: \w+ -->\n```python\n(.*?)```", page, re.S):
        exec(snippet, {})
    for example in re.findall(
        r"<!-- (?:collect|mechanical|encoded agents) -->\n```yaml\n(.*?)```", page, re.S
    ):
        done.write("example.yaml", example)
        assert done("plan", "example.yaml").code == 0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the child is found in /proc")
@pytest.mark.parametrize("world", ["ensemble", "mechanical"])
def test_agents_killed_and_resumed_seal_the_bytes_of_agents_left_alone(tmp_path: Path, world: str):
    manifest = {"ensemble": MANIFEST, "mechanical": MECHANICAL}[world].replace("rounds: 2", "rounds: 6")
    roots = []
    for name in ("alone", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        atlas = Atlas(folder, {})
        atlas.write("m.yaml", manifest)
        if name == "alone":
            assert atlas("run", "m.yaml").code == 0
        else:
            kill_after_a_kept_state(folder)
            (root,) = atlas.runs()
            assert not (root / "raw" / "agent").exists(), "the agents were done before they were killed"
            assert atlas("resume", root.name).code == 0
        roots.append(atlas.runs()[0])
    whole, resumed = (
        {p.name: p.read_bytes() for p in (root / "raw" / "agent").iterdir() if p.name != "facts.json"}
        for root in roots
    )
    assert {"returns.csv", "learning.csv", "agent0.safetensors", "agent1.safetensors"} <= whole.keys()
    assert whole == resumed


def kill_after_a_kept_state(folder: Path) -> None:
    """Start a run and kill the process of its step as soon as an agent's state is kept."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from atlas.cli import main; main()", "run", "m.yaml"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("runs/*/.kept/*/agent0.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    process.wait()


def test_a_loss_of_the_other_way_of_improvement_is_refused():
    with pytest.raises(BadInput, match="improvement by imagination does not read"):
        objective_of("imagination", {"policy-reinforce": 1.0})
