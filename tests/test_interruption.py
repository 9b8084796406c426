"""The real command line, killed: nothing acknowledged is lost, and the run goes on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atlas.record import open_record
from atlas.testing import Atlas

GAUGE = Path(__file__).parent / "gauge"
MANIFEST = """\
atlas: 1
name: killed
lineage: SML
seed: 3
governance: none
stimulus: {use: text, texts: [one, two, three]}
steps:
  - {id: first, use: gauge, params: {delay_s: 0.2}}
  - {id: second, use: gauge, params: {delay_s: 0.2}, sees: [{from: first.raw}]}
"""


def _kill_after(atlas: Atlas, seconds: float, *arguments: str) -> None:
    code = "from atlas.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=atlas.folder,
        env={**os.environ, **atlas.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_killed_run_resumes_and_loses_nothing(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    atlas.write("m.yaml", MANIFEST)
    draw = random.Random(20261122)
    finished = 0
    for _ in range(10):
        before = set(atlas.runs())
        _kill_after(atlas, draw.uniform(0.25, 1.9), "run", "m.yaml")
        for root in set(atlas.runs()) - before:
            events = open_record(root).events
            for _ in range(2):
                _kill_after(atlas, draw.uniform(0.2, 1.2), "resume", root.name)
                kept = open_record(root).events
                assert kept[: len(events)] == events
                events = kept
            outcome = atlas("resume", root.name)
            if "cut off while it was being prepared" in outcome.err:
                assert outcome.code == 2
                continue
            assert outcome.code == 0, outcome.err
            assert atlas("verify", root.name).code == 0
            assert open_record(root).events[: len(events)] == events
            finished += 1

    assert finished >= 4


def test_two_processes_in_one_folder_are_one_too_many(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    atlas.write("m.yaml", MANIFEST.replace("delay_s: 0.2", "delay_s: 1.5"))
    code = "from atlas.cli import main; main()"
    first = subprocess.Popen(
        [sys.executable, "-c", code, "run", "m.yaml"],
        cwd=tmp_path,
        env={**os.environ, **atlas.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not atlas.runs():
        time.sleep(0.05)
    time.sleep(0.3)

    outcome = atlas("resume", atlas.runs()[0].name)

    assert outcome.code == 2
    assert "another atlas process" in outcome.err
    assert first.wait() == 0


def test_a_failed_step_says_who_and_where_and_is_tried_again(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    atlas.write("m.yaml", MANIFEST.replace("{delay_s: 0.2}, sees", "{fail: true}, sees"))

    outcome = atlas("run", "m.yaml")
    run = atlas.runs()[0].name
    again = atlas("resume", run)

    assert (outcome.code, again.code) == (5, 5)
    assert "the gauge was asked to fail" in outcome.err
    assert "plugin 'gauge', atlas-gauge 1.0" in outcome.err
    assert "logs/second.1.stderr.txt" in outcome.err.replace(os.sep, "/")
    assert [e.data["attempt"] for e in atlas.view(run).of("step-failed")] == [1, 2]
    assert atlas.view(run).finished_steps() == ("first",)
