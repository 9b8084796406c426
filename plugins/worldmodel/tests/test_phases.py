"""The phases: what each may change, that an interrupted one ends with the same bytes, and bad input."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.geometry import distance
from atlas_topoencoder.losses.terms import TERMS
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.views import Views
from atlas_worldmodel.attention import Sizes
from atlas_worldmodel.attention_dynamics import AttentionDynamics
from atlas_worldmodel.firewall import LOSSES, PERMITTED
from atlas_worldmodel.joint import AtlasTerms
from atlas_worldmodel.phase_metrics import HORIZONS, measure_atlas, measure_drift, measure_world
from atlas_worldmodel.phases import Frames, WorldSchedule, WorldTraining, encode_all

from atlas.errors import InstrumentFailed
from atlas.objective import Objective
from atlas.randomness import RandomStreams

WEIGHTS = {"reconstruction": 1.0, "vq": 1.0, "uniformity": 0.1, "residual-scale": 0.1, "jump": 0.1}


def frames(count: int = 6, length: int = 32) -> Frames:
    """Return points that run around a circle, pushed by an action."""
    draw = np.random.default_rng(0)
    actions = draw.uniform(-1, 1, (count, length - 1, 1))
    angle = draw.uniform(0, 6, (count, 1)) + np.cumsum(
        0.2 + 0.05 * np.pad(actions, ((0, 0), (1, 0), (0, 0)))[..., 0], 1
    )
    x = np.stack((np.cos(angle), np.sin(angle), np.cos(2 * angle)), -1)
    return Frames(torch.tensor(x, dtype=torch.float32), torch.tensor(actions, dtype=torch.float32))


def training(*, joint: bool, jumps: bool = False, rate: float = 1e-3) -> WorldTraining:
    random = RandomStreams(5)
    architecture = Architecture([3], hidden=16, latent=3, charts=3, codes=4, max_radius=3.0)
    sizes = Sizes(latent=3, site_vectors=1, site_scalars=1, token_vectors=2, token_scalars=2, hidden=16)
    return WorldTraining(
        model=TopoEncoder(architecture, random),
        companions=Companions(charts=3, latent=3, classes=0, actions=1, streams=random),
        dynamics=AttentionDynamics(3, sizes, memory=1, max_radius=3.0, random=random),
        terms=AtlasTerms.of(Objective([TERMS[name] for name in WEIGHTS], WEIGHTS)),
        frames=frames(),
        schedule=WorldSchedule(
            steps=4,
            batch_size=8,
            horizon=3,
            learning_rate=rate,
            encoder_rate=1e-4 if joint else 0.0,
            jumps=jumps,
            clip=1.0,
        ),
        views=Views(),
        random=random,
    )


def changed(before: WorldTraining, after: WorldTraining) -> set[str]:
    old, new = before.state(), after.state()
    return {n.split(".")[0] for n in old if not torch.equal(old[n], new[n])}


@pytest.mark.parametrize(("joint", "expected"), [(False, {"world"}), (True, {"world", "model"})])
def test_a_phase_changes_what_it_trains_and_nothing_else(joint: bool, expected: set[str]) -> None:
    done = training(joint=joint)
    done.advance()
    assert changed(training(joint=joint), done) == expected


@pytest.mark.parametrize("jumps", [False, True])
@pytest.mark.parametrize("joint", [False, True])
def test_an_interrupted_phase_ends_with_the_same_bytes(joint: bool, jumps: bool) -> None:
    whole, first = training(joint=joint, jumps=jumps), training(joint=joint, jumps=jumps)
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        first.advance()
    again = training(joint=joint, jumps=jumps)
    again.restore(first.state(), first.step)
    for _ in range(2):
        again.advance()
    observed, expected = again.state(), whole.state()
    assert observed.keys() == expected.keys()
    assert all(torch.equal(observed[name], expected[name]) for name in expected)


@pytest.mark.parametrize("jumps", [False, True])
def test_the_joint_phase_keeps_the_firewall_with_its_own_world_model(jumps: bool) -> None:
    before = training(joint=True, jumps=jumps)
    cells = before.audit()
    assert [(c.parameters, c.loss, c.norm) for c in cells if not c.kept] == []
    assert changed(training(joint=True, jumps=jumps), before) == set()


def test_a_loss_that_is_not_finite_stops_the_phase_with_step_and_name() -> None:
    broken = training(joint=False)
    with torch.no_grad():
        broken.dynamics.world.forces.head.network[-1].bias.fill_(torch.nan)
    kept = broken.state()
    with pytest.raises(InstrumentFailed, match=r"is nan at step 0"):
        broken.advance()
    assert all(torch.equal(kept[n], v) for n, v in broken.state().items() if "world" not in n)


def test_errors_ahead_are_measured_against_the_frames_that_came() -> None:
    """Oracle: by hand, of a model that does not move, whose error is that of 'nothing moves'."""
    done, held = training(joint=False), frames(5, 40)

    class Still(AttentionDynamics):
        def forward(self, sequence, jumping):  # type: ignore[no-untyped-def]
            path = super().forward(sequence, jumping)
            last = sequence.targets[:, self.given - 1 : self.given]
            return path._replace(points=last.expand_as(path.points))

    done.dynamics.__class__ = Still
    found = {m.name: m for m in measure_world(done.model, done.dynamics, held, jumps=False)}
    z = encode_all(done.model, held).targets
    length = done.dynamics.given + max(HORIZONS)
    starts = range(0, 40 - length + 1, length)
    for horizon in HORIZONS:
        last, then = ([z[:, s + done.dynamics.given - 1 + k] for s in starts] for k in (0, horizon))
        expected = distance(torch.stack(last), torch.stack(then)).double().mean(0)
        measure = found[f"distance, {horizon} ahead"]
        assert measure.value == pytest.approx(float(expected.mean()), rel=1e-5)
        assert measure.standard_error == pytest.approx(float(expected.std()) / 5**0.5, rel=1e-4)
        assert found[f"distance if nothing moves, {horizon} ahead"].value == measure.value


def test_use_of_charts_and_drift_are_as_counted() -> None:
    """Oracle: perplexity and churn by hand; a model has not drifted from itself."""
    model, held = training(joint=False).model, frames(5, 40)
    found = {m.name: m.value for m in measure_atlas(model, held)}
    chart = encode_all(model, held).charts
    share = torch.bincount(chart.flatten(), minlength=3).double() / chart.numel()
    assert found["chart perplexity"] == pytest.approx(
        float((-(share * share.clamp_min(1e-300).log()).sum()).exp())
    )
    churn = (chart[:, 1:] != chart[:, :-1]).double().mean()
    assert found["churn of charts"] == pytest.approx(float(churn))
    drift = {m.name: m.value for m in measure_drift(model, model, held)}
    assert drift == {"drift of points": pytest.approx(0, abs=1e-6), "charts kept": 1.0}


MANIFEST = """\
atlas: 1
name: phases
lineage: TT
governance: none
steps:
  - id: data
    use: collect
    isolation: inline
    params: {environment: Pendulum-v1, transitions: 400, steps: 40}
  - id: one
    use: phase1
    isolation: inline
    sees: [{from: data.raw}]
    params:
      model: {hidden: 16, latent: 3, charts: 3, codes: 4}
      schedule: {steps: 12, warmup: 4, batch_size: 32}
  - {id: two, use: phase2, isolation: inline, sees: [SEEN], params: PARAMS}
  - id: three
    use: phase3
    isolation: inline
    sees: [{from: data.raw}, {from: two.raw}]
    params: {steps: 3, loss: {reconstruction: 1, vq: 1, uniformity: 0.1, residual-scale: 0.1, jump: JUMP}}
"""


def manifest(
    seen: str = "{from: data.raw}, {from: one.raw}", horizon: int = 4, jump: float = 0.1, more: str = ""
) -> str:
    params = f"{{steps: 3, horizon: {horizon}, jumps: true, world_loss: {{{more}}}}}"
    return MANIFEST.replace("SEEN", seen).replace("PARAMS", params).replace("JUMP", str(jump))


def test_one_held_out_trajectory_gives_values_without_errors(atlas) -> None:
    text = manifest().replace("transitions: 400", "transitions: 200")
    first = text[: text.index("  - {id: two")]
    outcome = atlas("run", str(atlas.write("m.yaml", first)))
    assert outcome.code == 0, outcome.err
    rows = atlas.view(atlas.runs()[0].name).tables("one")["metrics"]
    assert rows and all(row["standard_error"] is None and row["trajectories"] == 1 for row in rows)
    assert not re.search(r"± (nan|inf)", (atlas.runs()[0] / "report.html").read_text("utf-8"))


@pytest.mark.slow
def test_the_phases_run_as_one_manifest_and_leave_metrics_and_the_audit(atlas) -> None:
    outcome = atlas("run", str(atlas.write("m.yaml", manifest())))
    assert outcome.code == 0, outcome.err
    view = atlas.view(atlas.runs()[0].name)
    cells = {(r["when"], r["parameters"], r["loss"]): r for r in view.tables("three")["firewall"]}
    assert len(cells) == 2 * len(PERMITTED) * len(LOSSES)
    for (_, row, loss), cell in cells.items():
        assert cell["permitted"] is (loss in PERMITTED[row])
        if row not in ("soft-equivariant", "critic"):
            assert (cell["gradient_norm"] > 0) is cell["permitted"]
    metrics = {r["metric"] for r in view.tables("three")["metrics"]}
    assert {"reconstruction", "distance, 10 ahead", "drift of points"} <= metrics
    assert (atlas.runs()[0] / "raw/two/phase.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seen": "{from: one.raw}"}, "goes on from one step that uses `collect`, and `two` sees none"),
        ({"seen": "{from: data.raw}"}, "add `{from: one.raw}` under `sees`"),
        ({"more": "critic-td: 1, critic-poisson: 1"}, "no value in common without the generator's drift"),
        ({"more": "dynamics-energy: 1"}, "add `critic: {force: true}`"),
    ],
)
def test_what_no_phase_can_do_is_said_before_the_first_begins(atlas, changes, said) -> None:
    outcome = atlas("run", str(atlas.write("m.yaml", manifest(**changes))))
    assert outcome.code == 2
    assert said in outcome.err
    assert not atlas.runs()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"horizon": 38}, "set a horizon of at most 37"),
        ({"jump": 0}, "zn-reg does not train jump-operator"),
    ],
)
def test_what_a_phase_cannot_do_is_said_with_what_to_do(atlas, changes, said) -> None:
    outcome = atlas("run", str(atlas.write("m.yaml", manifest(**changes))))
    assert outcome.code != 0
    assert said in outcome.err
