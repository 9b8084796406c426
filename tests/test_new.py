"""`atlas new`: what it writes installs, passes its own tests and runs, as it is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from atlas.scaffold.distribution import KINDS
from atlas.testing import Atlas

NAME = "grain-size"
DOCS = Path(__file__).parents[1] / "docs"


def made(folder: Path, kind: str) -> Path:
    """Write a distribution as a user does."""
    outcome = Atlas(folder, {})("new", kind, NAME, "mine")
    assert outcome.code == 0, outcome.err
    return folder / "mine"


def install(project: Path, site: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True)


def own_tests(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_installs_passes_its_tests_and_runs(tmp_path, kind):
    project, site = made(tmp_path, kind), tmp_path / "site"
    install(project, site)

    tests = own_tests(project, site)
    assert tests.returncode == 0, tests.stdout + tests.stderr

    outcome = Atlas(project, {"PYTHONPATH": str(site)})("run", "manifest.yaml")
    assert outcome.code == 0, outcome.err


@pytest.mark.slow
def test_the_contract_finds_what_breaks_it(tmp_path):
    """A heavy import, a parameter without words, a random number of the wrong source, too little memory."""
    project, site = made(tmp_path, "instrument"), tmp_path / "site"
    package = project / "src" / "atlas_grain_size"
    module, card = package / "plugin.py", package / "atlas-plugin.yaml"
    text = module.read_text("utf-8").replace(
        "import statistics", "import random\nimport statistics\n\nimport numpy"
    )
    module.write_text(text.replace("statistics.fmean(lengths),", "random.random(),"), "utf-8")
    text = re.sub(r" +description: Whether.*\n", "", card.read_text("utf-8"))
    card.write_text(text.replace("memory_gb: 1", "memory_gb: 0.01"), "utf-8")
    install(project, site)

    found = set(re.findall(r"^FAILED \S+::TestContract::(\w+)", own_tests(project, site).stdout, re.M))

    assert found == {
        "test_importing_the_plugin_imports_nothing_heavy",
        "test_parameters_have_words_and_examples_that_are_valid",
        "test_the_declared_needs_suffice",
        "test_two_runs_are_equal",
        "test_a_run_that_was_killed_goes_on_to_the_same_tables",
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Grain", "cannot be the name"),
        ("grain_size", "cannot be the name"),
        ("1grain", "cannot be the name"),
        ("class", "cannot be the name"),
        ("pyhessian", "is taken by plugin 'pyhessian'"),
        ("synthesis", "is taken by plugin 'synthesis'"),
        ("host", "a distribution atlas-host"),
    ],
)
def test_a_name_that_cannot_be_is_refused(atlas, name, message):
    outcome = atlas("new", "instrument", name)

    assert (outcome.code, list(atlas.folder.iterdir())) == (2, [])
    assert message in outcome.err


def test_a_name_that_another_plugin_offers_is_refused(atlas):
    outcome = atlas("new", "loss-term", "vq")

    assert outcome.code == 2
    assert "offered by plugin 'topoencoder'" in outcome.err


def test_nothing_is_written_over(atlas):
    kept = atlas.write("mine/notes.txt", "mine")

    outcome = atlas("new", "instrument", NAME, "mine")

    assert outcome.code == 2
    assert [path.name for path in atlas.folder.rglob("*")] == ["mine", "notes.txt"]
    assert kept.read_text("utf-8") == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_no_word_of_the_template_is_left(tmp_path, kind):
    project = made(tmp_path, kind)

    for path in (p for p in project.rglob("*") if p.is_file()):
        assert "newcomer" not in path.name + path.read_text("utf-8").lower(), path
        assert "NCN" not in path.read_text("utf-8"), path


@pytest.mark.parametrize("page", ["writing-a-loss-term.md", "writing-a-backend.md"])
def test_the_tutorials_print_what_is_written(tmp_path, page):
    """Each block of a tutorial stands in a file that its first command writes; other tests run those."""
    text = (DOCS / page).read_text("utf-8")
    command = re.search(r"^    atlas (new \S+ \S+)$", text, re.M)
    assert command is not None
    outcome = Atlas(tmp_path, {})(*command.group(1).split())
    assert outcome.code == 0, outcome.err

    written = [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.S)

    assert len(blocks) >= 3
    for block in blocks:
        assert any(block in file for file in written), block
