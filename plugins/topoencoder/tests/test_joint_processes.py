"""A step of several processes: the same training, and an end that says so when one of them dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atlas.testing import Atlas

pytest.importorskip("accelerate")

MANIFEST = """\
atlas: 1
name: joint
lineage: TST
seed: 3
governance: none
steps:
  - id: train
    use: topoencoder
    params:
      data: {use: moons, count: 200}
      processes: PROCESSES
      model: {hidden: 8, latent: 2, charts: 3, codes: 4}
      schedule: {steps: STEPS, warmup: 10, batch_size: BATCH, revive_every: 10, placing: k-means}
      log_every: 10
      gradients_every: 20
      keep_every: 5
"""


def manifest(processes: int, steps: int = 40, batch: int = 32) -> str:
    text = MANIFEST.replace("PROCESSES", str(processes)).replace("STEPS", str(steps))
    return text.replace("BATCH", str(batch))


@pytest.mark.slow
def test_a_step_of_two_processes_trains_what_one_trains(tmp_path: Path) -> None:
    """Sums over a batch are taken in another order; 40 steps make 1e-5 of that."""
    curves = []
    for processes in (1, 2):
        atlas = Atlas(tmp_path / str(processes), {})
        atlas.write("m.yaml", manifest(processes))
        outcome = atlas("run", "m.yaml")
        assert outcome.code == 0, outcome.err
        curves.append(atlas.view(atlas.runs()[0].name).tables("train")["curves"])

    for one, two in zip(*curves, strict=True):
        assert two["value"] == pytest.approx(one["value"], rel=1e-3, abs=1e-6), one["term"]
        norms = [row["gradient_norm"] or 0.0 for row in (one, two)]  # None where it was not taken
        assert norms[1] == pytest.approx(norms[0], rel=1e-2, abs=1e-6)


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {})
    atlas.write("m.yaml", manifest(2, batch=33))

    outcome = atlas("run", "m.yaml")

    assert outcome.code != 0
    assert "a batch of 33 examples cannot be shared evenly by 2 processes" in outcome.err


def descendants(process: int) -> set[int]:
    """Return the numbers of all processes below one."""
    found = set()
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found |= {child} | descendants(child)
    return found


def started_by_another(process: int) -> bool:
    """Say whether it is one that a step started for its training."""
    return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()


ALONE = """\
import sys
from atlas_topoencoder.devices import open_device
from atlas_topoencoder.joint_processes import joint_processes


def leave():
    sys.exit(3)


if __name__ == "__main__":
    with joint_processes(2, leave):
        open_device("cpu", "float32")
"""


@pytest.mark.slow
def test_where_a_process_ends_before_the_first_meeting_the_step_does_not_wait_for_it(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(ALONE)
    done = subprocess.run(
        [sys.executable, "alone.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "process 2 of 2 ended with status 3" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_where_a_process_dies_the_step_says_so_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {})
    atlas.write("m.yaml", manifest(2, steps=300))
    process = subprocess.Popen(
        [sys.executable, "-c", "from atlas.cli import main; main()", "run", "m.yaml"],
        cwd=tmp_path,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/.kept/*/training0.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    below = descendants(process.pid)
    os.kill(next(filter(started_by_another, below)), signal.SIGKILL)
    _, said = process.communicate(timeout=60)

    assert process.returncode != 0
    assert "process 2 of 2 ended by SIGKILL" in re.sub(r"\s+", " ", said)
    while left := [child for child in below if Path(f"/proc/{child}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    outcome = atlas("resume", atlas.runs()[0].name)
    assert outcome.code == 0, outcome.err
