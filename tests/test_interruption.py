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
from atlas.run.kept import KEPT, keep
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

    run = atlas.runs()[0].name
    outcome = atlas("resume", run)

    assert outcome.code == 2
    assert "another atlas process" in outcome.err
    assert "running" in atlas("status").out and "next: wait" in atlas("status", run).out

    first.kill()
    first.wait()
    assert "interrupted" in atlas("status").out and f"next: atlas resume {run}" in atlas("status", run).out
    assert run in atlas("runs", "list", "--state", "interrupted").out
    assert atlas("resume", run).code == 0


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


def test_what_a_step_keeps_outlives_its_attempts_and_goes_once_it_is_sealed(tmp_path: Path) -> None:
    """The gauge counts its attempts in the kept folder: only there can the second know of the first."""
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    atlas.write("m.yaml", MANIFEST.replace("{delay_s: 0.2}, sees", "{failures: 1}, sees"))

    assert atlas("run", "m.yaml").code == 5
    root = atlas.runs()[0]
    assert [path.name.partition("@")[0] for path in (root / KEPT).iterdir()] == ["second"]
    checked = atlas("verify", root.name)
    assert (checked.code, "nobody vouches" in checked.out) == (0, False)
    assert atlas("resume", root.name).code == 0
    assert not (root / KEPT).exists()


def test_an_abandoned_run_keeps_nothing(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(GAUGE)})
    atlas.write("m.yaml", MANIFEST.replace("{delay_s: 0.2}, sees", "{failures: 1}, sees"))
    assert atlas("run", "m.yaml").code == 5
    root = atlas.runs()[0]

    assert atlas("abandon", root.name, "--reason", "enough", "--by", "A. Technician").code == 0

    assert not (root / KEPT).exists()


def test_what_was_kept_under_another_key_is_removed(tmp_path: Path) -> None:
    (keep(tmp_path, "second", "before") / "state").write_text("old")
    other = keep(tmp_path, "first", "before")

    folder = keep(tmp_path, "second", "after")

    assert sorted((tmp_path / KEPT).iterdir()) == [other, folder]
    assert list(folder.iterdir()) == []
