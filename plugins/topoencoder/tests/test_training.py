"""The instrument on tiny data: its bytes after a kill, bad input, its checkpoints as curvature targets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from atlas_topoencoder.checkpoint import encode_checkpoint, load_checkpoint, read_checkpoint
from atlas_topoencoder.commands import topoencoder
from atlas_topoencoder.data import Dataset, Split, load, split
from atlas_topoencoder.devices import Device, open_device
from atlas_topoencoder.events import write_events
from atlas_topoencoder.figures import step_figures
from atlas_topoencoder.instrument import objective_of, training_of
from atlas_topoencoder.losses.terms import PHASE_1
from atlas_topoencoder.metrics import (
    Reading,
    hungarian_accuracy,
    measure,
    mutual_information,
    perplexity,
    read,
)
from atlas_topoencoder.training import Training
from click.testing import CliRunner

from atlas.errors import BadInput, InstrumentFailed
from atlas.randomness import RandomStreams
from atlas.testing import Atlas

CPU = open_device("cpu", "float32")

MANIFEST = """\
atlas: 1
name: tiny
lineage: TST
seed: 3
governance: none
steps:
  - id: train
    use: topoencoder
    params:
      data: {use: moons, count: 200}
      model: {hidden: 8, latent: 2, charts: 3, codes: 4}
      schedule: {steps: STEPS, warmup: 10, batch_size: 32, revive_every: 10, placing: k-means}
      log_every: 10
      gradients_every: 20
      snapshots: 2
      keep_every: 5
"""
CURVATURE = """\
atlas: 1
name: tiny-curvature
lineage: TST
seed: 3
governance: none
targets:
  whole: {use: topoencoder, path: checkpoint0.safetensors, data: {use: moons, count: 200}}
  codes: {use: topoencoder, path: checkpoint0.safetensors, data: {use: moons, count: 200}, loss: {vq: 1.0}}
stimulus: {use: examples, count: 40}
steps:
  - {id: whole, use: pyhessian, target: whole, params: {dtype: float64, top_k: 1, trace: {max_probes: 4}}}
  - {id: codes, use: pyhessian, target: codes, params: {dtype: float64, top_k: 1, trace: {max_probes: 4}}}
"""


def raw(root: Path) -> dict[str, bytes]:
    """Return what a run measured; facts may name the time."""
    return {
        p.name: p.read_bytes() for p in (root / "raw/train").iterdir() if p.suffix in (".csv", ".safetensors")
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """A finished training in its folder."""
    atlas = Atlas(tmp_path_factory.mktemp("training"), {})
    atlas.write("m.yaml", MANIFEST.replace("STEPS", "40"))
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    return atlas


def test_a_term_without_what_it_reads_is_refused_before_the_first_step(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {})
    atlas.write(
        "m.yaml", MANIFEST.replace("STEPS", "40") + "      loss: {reconstruction: 1, next-token: 1}\n"
    )

    outcome = atlas("run", "m.yaml")

    assert outcome.code != 0
    assert "the loss term 'next-token' reads the outputs 'causal-lm'" in outcome.err
    assert not list(tmp_path.glob("runs/*/.kept/*/training0.safetensors"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles for the CPU with a C++ compiler")
def test_compiled_steps_go_where_plain_ones_go(done: Atlas, tmp_path: Path) -> None:
    """In one graph, or the compilation fails; rounding differs, by what 30 steps make of it."""
    atlas = Atlas(tmp_path, {})
    atlas.write(
        "m.yaml",
        MANIFEST.replace("STEPS", "40").replace("log_every: 10", "log_every: 10\n      compile: true"),
    )

    outcome = atlas("run", "m.yaml")

    assert outcome.code == 0, outcome.err
    plain, compiled = (where.view(where.runs()[0].name).tables("train")["curves"] for where in (done, atlas))
    for one, other in zip(plain, compiled, strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=1e-3, abs=1e-6), one["term"]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the child is found in /proc")
def test_a_training_killed_and_resumed_seals_the_bytes_of_one_left_alone(done: Atlas, tmp_path: Path) -> None:
    expected = raw(done.runs()[0])
    atlas = Atlas(tmp_path, {})
    atlas.write("m.yaml", MANIFEST.replace("STEPS", "40"))
    process = subprocess.Popen(
        [sys.executable, "-c", "from atlas.cli import main; main()", "run", "m.yaml"],
        cwd=tmp_path,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/.kept/*/training0.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGKILL)
    process.wait()
    (root,) = atlas.runs()
    assert not (root / "raw/train").exists(), "the training was over before it was killed"

    outcome = atlas("resume", root.name)

    assert outcome.code == 0, outcome.err
    assert raw(root) == expected


def test_the_tables_hold_every_term_metric_and_code(done: Atlas) -> None:
    tables = done.view(done.runs()[0].name).tables("train")
    assert {row["step"] for row in tables["curves"]} == {1, 10, 20, 30, 40}
    assert {r["term"] for r in tables["curves"] if r["step"] == 1} == {
        "reconstruction",
        "base-reconstruction",
    }
    assert all(r["gradient_norm"] > 0 for r in tables["curves"] if r["step"] == 20 and r["term"] == "vq")
    assert (len(tables["charts"]), len(tables["codes"]), len(tables["points"])) == (3, 12, 40)
    assert sum(row["examples"] for row in tables["codes"]) == 200
    undefined = {row["metric"]: row["note"] for row in tables["metrics"] if row["value"] is None}
    assert undefined == {"chart_accuracy": "3 charts cannot be matched one to one with 2 classes"}


def test_the_pictures_are_written_as_files_and_into_the_report(done: Atlas, tmp_path: Path) -> None:
    run = done.runs()[0].name
    view = done.view(run)
    names = [figure.name for figure in step_figures(view, "train")]
    assert names == ["atlas", "codes", "steps", "curves"]
    assert (done.runs()[0] / "report.html").read_text("utf-8").count("<figure>") == len(names)

    class Here:
        def view(self, name: str) -> object:
            return done.view(name)

    outcome = CliRunner().invoke(
        topoencoder, ["pictures", run, "--kind", "png", "--out", str(tmp_path)], obj=Here()
    )
    assert outcome.exit_code == 0, outcome.output
    assert sorted(p.name for p in tmp_path.glob("*.png")) == sorted(f"{run}-train-{n}.png" for n in names)


def test_tensorboard_reads_every_value_gradient_and_metric(done: Atlas, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    view = done.view(done.runs()[0].name)
    (path,) = write_events(view, tmp_path)
    events = reader.EventAccumulator(str(path))
    events.Reload()
    tables = view.tables("train")
    found = {name: {e.step: e.value for e in events.Scalars(name)} for name in events.Tags()["scalars"]}
    for row in tables["curves"]:
        # stored in float32
        assert found[f"value/{row['term']}"][row["step"]] == pytest.approx(row["value"], rel=1e-6)
    assert found["gradient norm/vq"].keys() == {20}
    defined = {f"test/{row['metric']}" for row in tables["metrics"] if row["value"] is not None}
    assert defined == {name for name in found if name.startswith("test/")}
    assert events.Tags()["images"] == ["atlas", "codes", "steps", "curves"]


@pytest.mark.slow
def test_the_curvature_of_a_trained_model_is_measured_term_by_term(done: Atlas, tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {})
    checkpoint = done.runs()[0] / "raw/train/checkpoint0.safetensors"
    (tmp_path / checkpoint.name).write_bytes(checkpoint.read_bytes())
    atlas.write("m.yaml", CURVATURE)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err

    (run,) = atlas.runs()
    found = {(row["step"], row["quantity"]): row["value"] for row in atlas.show(run.name)["quantities"]}
    opened = load_checkpoint(checkpoint)
    moons = load({"use": "moons", "count": 200, "noise": 0.05}, random=RandomStreams(0), scratch=tmp_path)
    x = torch.from_numpy(moons.take(np.arange(40)))
    with torch.no_grad():
        _, decoding = opened.model(x)
    expected = (decoding.reconstruction - x).square().mean().item()
    assert found["whole", "loss"] == pytest.approx(expected, rel=1e-5)  # both in float32
    assert found["whole", "lambda_max"] > 0
    assert found["codes", "lambda_max"] > 0


def test_a_checkpoint_of_another_size_is_refused_by_tensor(done: Atlas, tmp_path: Path) -> None:
    tensors, head = read_checkpoint(done.runs()[0] / "raw/train/checkpoint0.safetensors")
    opened = load_checkpoint(done.runs()[0] / "raw/train/checkpoint0.safetensors")
    tensors["model.value.weight"] = torch.zeros(3, 8)
    path = tmp_path / "other.safetensors"
    path.write_bytes(encode_checkpoint(tensors, opened.model.architecture, head["facts"]))
    with pytest.raises(BadInput, match=r"tensor 'value.weight' is \[3, 8\], expected \[2, 8\]"):
        load_checkpoint(path)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "torn.safetensors"
    path.write_bytes(b"\x00" * 20)
    with pytest.raises(BadInput, match="cannot be read"):
        load_checkpoint(path)


SCHEDULE = {
    "steps": 4,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "clip": 1.0,
    "warmup": 2,
    "placing": "k-means",
    "revive_every": 1,
}


def begun(
    values: np.ndarray,
    *,
    loss: dict[str, float] | None = None,
    labels: np.ndarray | None = None,
    device: Device = CPU,
    **params: Any,
) -> tuple[Training, Split]:
    """Return a training of labelled examples, all of one class if none are given, at its first step."""
    random = RandomStreams(1)
    labels = np.zeros(len(values), dtype=np.int64) if labels is None else labels
    dataset = Dataset(values, 1.0, labels, tuple("abc"[: labels.max() + 1]), "test values")
    parts = split(dataset, 0.2, random)
    given = {
        "model": {"hidden": 8, "latent": 2, "charts": 3, "codes": 4} | params.get("model", {}),
        "schedule": SCHEDULE | params.get("schedule", {}),
        "views": params.get("views", {}),
    }
    return training_of(given, dataset, parts, objective_of(loss or {}), random, device), parts


NORMAL = np.random.default_rng(0).standard_normal((40, 1, 4, 4)).astype(np.float32)


def test_a_training_in_half_precision_goes_where_one_in_float32_goes() -> None:
    """bfloat16 rounds to 4e-3, and ten steps of Adam make some times that of it."""
    values, weights = NORMAL.reshape(40, 16), dict.fromkeys(PHASE_1, 0.1)
    plain, rounded = (
        begun(values, loss=weights, device=open_device("cpu", precision))[0]
        for precision in ("float32", "bfloat16")
    )
    for _ in range(10):
        one, other = (training.advance().terms["reconstruction"].item() for training in (plain, rounded))
    assert one != other == pytest.approx(one, rel=0.05)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "more charts than points": (
        {"model": {"charts": 33}},
        "33 charts cannot be placed on 32 training examples",
    ),
    "a view of images": ({"values": NORMAL.reshape(40, 16), "views": {"shift": 1}}, "no images"),
    "an extractor of images": (
        {"values": NORMAL.reshape(40, 16), "model": {"extractor": "conv"}},
        "reads images",
    ),
    "fewer charts than classes": (
        {"model": {"charts": 2}, "schedule": {"placing": "labels"}, "labels": np.arange(40) % 3},
        "3 classes exceed 2 charts",
    ),
    "sequences": ({"loss": {"slowness": 1.0}}, "need sequences"),
    "a term that is none": ({"loss": {"reconstructoin": 1.0}}, "no loss term 'reconstructoin'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_is_refused_in_a_sentence(case: str) -> None:
    params, message = BAD[case]
    with pytest.raises(BadInput, match=message):
        training, _ = begun(**{"values": NORMAL, **params})
        for _ in range(4):
            training.advance()


def test_charts_placed_by_labels_anchor_each_example_to_its_class() -> None:
    labels = np.arange(40) % 3
    training, _ = begun(NORMAL, labels=labels, schedule={"placing": "labels"})
    for _ in range(3):
        training.advance()
    assert training.anchors is not None
    placed = training.anchors >= 0
    assert placed.sum() == 32 and np.array_equal(training.anchors[placed], labels[placed])


GOOD: dict[str, dict[str, Any]] = {
    "constant images": {"values": np.full((40, 1, 4, 4), 7, dtype=np.uint8)},
    "two examples": {"values": NORMAL[:2], "model": {"charts": 1}},
    "a batch of one": {"values": NORMAL, "schedule": {"batch_size": 1}},
    "one chart of one code": {"values": NORMAL, "model": {"charts": 1, "codes": 1}},
    "spectral placing": {"values": NORMAL, "schedule": {"placing": "spectral"}},
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", GOOD)
def test_odd_data_are_trained_on_and_measured(case: str) -> None:
    training, parts = begun(**GOOD[case])
    for _ in range(4):
        training.checked(training.advance())
    test, train = (
        read(training.model, training.dataset, rows, CPU.device) for rows in (parts.test, parts.train)
    )
    found = {m.name: m for m in measure(test, train, classes=1, generator=np.random.default_rng(0))}
    assert found["chart_ami"].note == "all examples are of one class"
    assert np.isfinite(found["mse_full"].value)


def test_a_loss_that_is_not_finite_is_named() -> None:
    training, _ = begun(np.full((10, 4), 1e30, dtype=np.float32))
    with pytest.raises(InstrumentFailed, match="the loss term reconstruction is"):
        training.checked(training.advance())


def test_metrics_of_known_partitions_are_exact() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert mutual_information(np.array([2, 2, 0, 0, 1, 1]), labels) == pytest.approx(1.0)  # a renaming
    assert hungarian_accuracy(np.array([2, 2, 0, 0, 1, 0]), labels) == 5 / 6
    assert perplexity(np.array([0, 1, 2, 3]), 4) == pytest.approx(4.0)


def test_the_bootstrap_error_of_a_mean_is_its_standard_error() -> None:
    generator = np.random.default_rng(0)
    count = 400
    errors = generator.standard_normal(count)
    chart = np.zeros(count, dtype=np.int64)
    reading = Reading({"full": errors}, chart, chart, None, np.zeros((count, 2)), np.zeros((count, 2)), 1, 1)
    found = {m.name: m for m in measure(reading, reading, classes=0, generator=generator)}
    expected = errors.std() / np.sqrt(count)
    # 200 resamples give a standard deviation to about 5%, one standard error of it
    assert found["mse_full"].standard_error == pytest.approx(expected, rel=0.2)
    assert found["chart_ami"].note == "the data have no labels"


def test_a_checkpoint_says_what_it_was_made_of(done: Atlas) -> None:
    _, head = read_checkpoint(done.runs()[0] / "raw/train/checkpoint0.safetensors")
    assert (head["facts"]["data"], head["facts"]["steps"]) == ("two moons", 40)
    assert json.dumps(head["architecture"]["shape"]) == "[2]"


@pytest.mark.slow
def test_a_short_training_on_digits_beats_plain_baselines(tmp_path: Path) -> None:
    # On held-out digits k-means of the pixels has an AMI of 0.74 with the labels, and 16 principal
    # components an error of 0.0114. An eighth of the manifest's steps leaves room to both.
    random = RandomStreams(7)
    digits = load({"use": "digits"}, random=random, scratch=tmp_path)
    parts = split(digits, 0.2, random)
    schedule = SCHEDULE | {"steps": 320, "warmup": 120, "batch_size": 128, "learning_rate": 3e-3}
    params = {
        "model": {"max_radius": 3.0, "lipschitz": 6.0},
        "schedule": schedule | {"placing": "spectral", "revive_every": 50},
        "views": {"shift": 1, "rotate": 12, "scale": 0.1, "noise": 0.03},
    }
    training = training_of(params, digits, parts, objective_of({}), random, CPU)
    while training.step < 320:
        training.advance()
    test, known = (read(training.model, digits, rows, CPU.device) for rows in (parts.test, parts.train))
    found = {
        m.name: m.value
        for m in measure(test, known, classes=10, generator=np.random.default_rng(0), resamples=2)
    }
    assert found["chart_ami"] > 0.74
    assert found["mse_full"] < 0.0114
    assert found["charts_used"] == 10
