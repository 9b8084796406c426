"""A step killed on the real command line and resumed: its sealed tables are those of a run left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atlas.testing import Atlas

CLINIC = Path(__file__).parent / "clinic"
MANIFEST = """\
atlas: 1
name: killed
lineage: TST
seed: 3
governance: none
targets:
  lm: {use: clinic, patient: healthy, delay_s: 0}
stimulus: {use: bsa, version: "0.2", where: {pair: [bsa-001, bsa-002, bsa-003]}, each: pair}
steps:
  - id: curvature
    use: pyhessian
    target: lm
    params: {top_k: 4, tolerance: 1.0e-6, graph: recompute, trace: {max_probes: 12}, density: DENSITY}
""".replace("DENSITY", "{probes: 2, steps: 4}")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are found in /proc"),
]


def run_until(atlas: Atlas, pattern: str, *arguments: str, whole: bool) -> None:
    """Start a command, and kill its step, or command and step, once a kept file of this name appears."""
    code = "from atlas.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=atlas.folder,
        env={**os.environ, **atlas.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not list(atlas.folder.glob(f"runs/*/.kept/*/{pattern}")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, pattern
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if whole:
        process.kill()
    else:
        assert children
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    process.wait()
    process.stderr.close()


def sealed(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "raw/curvature").glob("*.csv")}


@pytest.mark.slow
def test_a_step_killed_at_four_places_seals_the_bytes_of_one_left_alone(tmp_path: Path) -> None:
    """Killed in Lanczos, in the trace with the host, between slices, and in the next Lanczos."""
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(CLINIC)})
    atlas.write("m.yaml", MANIFEST)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    expected = sealed(atlas.runs()[0])

    atlas.write("slow.yaml", MANIFEST.replace("delay_s: 0", "delay_s: 0.04"))
    run_until(atlas, "slice0.curvature.lanczos.json", "run", "slow.yaml", whole=False)
    root = atlas.runs()[-1]
    run_until(atlas, "slice0.curvature.results.json", "resume", root.name, whole=True)
    run_until(atlas, "slice0.finished.json", "resume", root.name, whole=False)
    run_until(atlas, "slice1.curvature.lanczos.json", "resume", root.name, whole=False)
    outcome = atlas("resume", root.name)

    assert outcome.code == 0, outcome.err
    assert sealed(root) == expected
    assert not (root / ".kept").exists()
    assert atlas("verify", root.name).code == 0
    facts = json.loads((root / "raw/curvature/facts.json").read_text())
    assert facts["resumed.bsa-001"] == "measured whole by an interrupted attempt"
    assert facts["resumed.bsa-002"].startswith("after ")
    assert "resumed.bsa-003" not in facts
    checked = [
        e.data for e in atlas.view(root.name).of("step-checked") if e.data["name"] == "resumed bsa-001"
    ]
    assert "products of Lanczos, with" in checked[0]["detail"]


@pytest.mark.slow
def test_a_spoilt_state_is_journaled_and_the_slice_measured_anew(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(CLINIC)})
    atlas.write(
        "m.yaml",
        MANIFEST.replace("delay_s: 0", "delay_s: 0.04")
        .replace("bsa-001, bsa-002, ", "")
        .replace("density: {probes: 2, steps: 4}", "density: false"),
    )
    run_until(atlas, "slice0.curvature.lanczos.json", "run", "m.yaml", whole=False)
    root = atlas.runs()[0]
    (state,) = root.glob(".kept/*/slice0.curvature.lanczos.json")
    state.write_bytes(state.read_bytes()[:-1])

    outcome = atlas("resume", root.name)

    assert outcome.code == 0, outcome.err
    notes = [e.data["detail"] for e in atlas.view(root.name).of("step-checked") if "kept" in e.data["name"]]
    assert notes == [
        "a kept state (lanczos) is not used, and its part is measured anew: it is torn or was changed"
    ]
    assert "resumed.bsa-003" not in json.loads((root / "raw/curvature/facts.json").read_text())
