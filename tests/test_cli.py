"""The command line on the consoles, platforms and installations that it meets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atlas.testing import Atlas

GAUGE = Path(__file__).parent / "gauge"
MANIFEST = """\
atlas: 1
name: small
lineage: SML
seed: 3
governance: none
stimulus: {use: text, texts: ["\\u03bb \\u2264 \\u221e"]}
steps:
  - {id: gauge, use: gauge}
"""


def _atlas(folder: Path, **environment: str) -> Atlas:
    atlas = Atlas(folder, {"PYTHONPATH": str(GAUGE), **environment})
    atlas.write("m.yaml", MANIFEST)
    return atlas


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plan", "m.yaml"], ["registry", "check"]])
def test_listing_and_planning_import_no_heavy_library(tmp_path: Path, arguments: list[str]) -> None:
    _atlas(tmp_path)
    code = (
        "import sys\nfrom atlas.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'openpyxl', 'matplotlib'} & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(GAUGE)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"]])
def test_what_is_installed_is_listed_without_what_runs_need(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom atlas.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(sorted(name for name in sys.modules if name.startswith('atlas.run')))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_console_that_knows_little_still_shows_everything(tmp_path: Path) -> None:
    atlas = _atlas(tmp_path, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")

    outcome = atlas("run", "m.yaml")

    assert outcome.code == 0, outcome.err
    assert "characters" in outcome.out


def test_a_platform_without_fcntl_runs(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['fcntl'] = None\n")
    atlas = Atlas(tmp_path, {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{GAUGE}"})
    atlas.write("m.yaml", MANIFEST)

    outcome = atlas("run", "m.yaml")

    assert outcome.code == 0, outcome.err


def test_a_broken_plugin_is_listed_and_harms_no_other(tmp_path: Path) -> None:
    info = tmp_path / "site" / "atlas_broken-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: atlas-broken\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[atlas.plugins]\nbroken = atlas_broken.plugin\n")
    package = tmp_path / "site" / "atlas_broken"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text("import a_module_that_is_not_there\n")
    card = "api: 1\nsummary: Broken.\nprovides:\n  instruments:\n    broken: {summary: Broken., code: BRK}\n"
    (package / "atlas-plugin.yaml").write_text(card)
    atlas = Atlas(tmp_path, {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{GAUGE}"})
    atlas.write("m.yaml", MANIFEST)
    atlas.write("b.yaml", MANIFEST.replace("use: gauge", "use: broken"))

    listed, checked = atlas("plugins"), atlas("plugins", "--check")
    sound, broken = atlas("run", "m.yaml"), atlas("run", "b.yaml")

    assert (listed.code, checked.code, sound.code) == (0, 2, 0)
    assert "atlas-broken 0.1: the plugin cannot be imported: ModuleNotFoundError" in checked.err
    assert broken.code == 2
    assert "plugin 'broken', atlas-broken 0.1" in broken.err
    assert "a_module_that_is_not_there" in broken.err


def test_a_section_that_cannot_be_drawn_costs_no_run(tmp_path: Path) -> None:
    atlas = _atlas(tmp_path)
    atlas.write("u.yaml", MANIFEST.replace("name: small", "name: unlucky"))

    drawn, unlucky = atlas("run", "m.yaml"), atlas("run", "u.yaml")
    pages = [(root / "report.html").read_text(encoding="utf-8") for root in atlas.runs()]

    assert (drawn.code, unlucky.code) == (0, 0), unlucky.err
    assert "<p>drawn: gauge</p>" in pages[0]
    assert "plugin 'gauge', atlas-gauge 1.0 could not render" in unlucky.err
    assert "RuntimeError: no luck &lt;b&gt;today" in pages[1]


def test_overrides_and_a_matrix_make_one_run_each(tmp_path: Path) -> None:
    atlas = _atlas(tmp_path)
    atlas.write("x.yaml", MANIFEST + "matrix: {seed: [1, 2], steps.gauge.params.draws: [4, 8]}\n")

    outcome = atlas("run", "x.yaml")

    assert outcome.code == 0, outcome.err
    made = [
        (view.manifest["seed"], view.manifest["steps"][0]["params"]["draws"])
        for view in (atlas.view(root.name) for root in atlas.runs())
    ]
    assert made == [(1, 4), (1, 8), (2, 4), (2, 8)]


def test_the_resolved_manifest_repeats_the_run(tmp_path: Path) -> None:
    atlas = _atlas(tmp_path)
    atlas("run", "m.yaml")
    first = atlas.runs()[0]

    outcome = atlas("run", str(first / "manifest.resolved.yaml"))
    second = atlas.runs()[1]

    assert outcome.code == 0, outcome.err
    for name in ("manifest.resolved.yaml", "raw/gauge/quantities.csv", "stimulus/items.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_reproduce_grades_every_quantity_and_keeps_the_exit_code(tmp_path: Path) -> None:
    atlas = _atlas(tmp_path)
    atlas("run", "m.yaml")
    run = atlas.runs()[0].name
    atlas("pack", run, "--to", "out")

    outcome = atlas("reproduce", f"out/{run}.zip")

    assert outcome.code == 0, outcome.err
    assert f"{run}: identical" in outcome.out
    assert "mean" in outcome.out


def test_words_that_are_not_known_get_the_nearest_that_are(tmp_path: Path) -> None:
    atlas = Atlas(tmp_path, {})

    command = atlas("shwo")
    assert command.code == 2 and "Did you mean show" in command.err
    state = atlas("runs", "list", "--state", "dun")
    assert state.code == 2 and "'interrupted'" in state.err
