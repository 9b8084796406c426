"""The registry: where it is found, what it admits, how it is rewritten, and what ships in a wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from attrs import evolve

from atlas.catalog import Card, Catalog, parse_card
from atlas.errors import BadInput, PluginFault
from atlas.registry import Difference, Registry

ROOT = Path(__file__).parents[1]
CARD = b"""
api: 1
summary: One.
provides:
  instruments: {spectrometer: {summary: Measures.}}
  schemas: {spectrum/2: {summary: Eigenvalues.}, spectrum/1: {summary: Older.}}
  commands: {tool: {use: "one.commands:tool", summary: A command.}}
"""
HEAD = "# Whoever edits this file signs for it.\nregistry: 1\n# In the order of names.\nplugins:\n"
TWO = """\
  # Kept for the records of 2025.
  two:
    distribution: "atlas-two"  # by hand
    versions: ">=2"
    card: "{digest}"
    status: retired
    offers:
      targets: [rock]
""".format(digest="2" * 64)


def card(plugin: str = "one", version: str = "0.3.1", data: bytes = CARD) -> Card:
    return parse_card(data, plugin=plugin, module=plugin, distribution=f"atlas-{plugin}", version=version)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    path = tmp_path / "registry.yaml"
    path.write_text(HEAD + TWO)
    return Registry.read(path)


def test_an_added_plugin_is_admitted_as_it_is(registry: Registry) -> None:
    added = registry.add(card())

    assert added.admits(card()) is None
    assert added == Registry.read(registry.path or Path())
    assert added.names("schemas") == ("spectrum/1", "spectrum/2")
    assert added.distribution("instruments", "spectrometer") == "atlas-one"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (card(data=CARD + b"# more"), "its card changed since it was admitted"),
        (card(version="0.4.0"), "its version is 0.4.0; the registry admits >=0.3.1,<0.4"),
        (card(version="unknown"), "its version is unknown; the registry admits >=0.3.1,<0.4"),
        (evolve(card(), distribution="evil-one"), "it comes from evil-one; the registry admits atlas-one"),
    ],
)
def test_what_differs_from_what_was_admitted_is_refused(
    registry: Registry, changed: Card, reason: str
) -> None:
    assert registry.add(card()).admits(changed) == reason


@pytest.mark.parametrize("status", ["deferred", "retired"])
def test_what_is_deferred_or_retired_is_refused(registry: Registry, status: str) -> None:
    entry = evolve(registry.add(card()).entries["one"], status=status)

    assert Registry(registry.path, {"one": entry}).admits(card()) == f"the registry lists it as {status}"


def test_what_is_not_listed_is_refused_with_the_files_name_but_not_its_path(registry: Registry) -> None:
    assert registry.admits(card()) == "it is not in registry.yaml"


def test_adding_changes_no_other_byte(registry: Registry, tmp_path: Path) -> None:
    registry.add(card())

    assert (tmp_path / "registry.yaml").read_text() == (
        HEAD
        + "  one:\n"
        + "    distribution: atlas-one\n"
        + '    versions: ">=0.3.1,<0.4"\n'
        + f'    card: "{card().sha256}"\n'
        + "    status: provisional\n"
        + "    offers:\n"
        + "      instruments: [spectrometer]\n"
        + "      schemas: [spectrum/1, spectrum/2]\n"
        + TWO
    )


def test_adding_twice_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    registry.add(card()).add(card())

    assert (tmp_path / "registry.yaml").read_text().count("  one:\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["registry.yaml"]


def test_adding_anew_keeps_status_range_and_comments(registry: Registry, tmp_path: Path) -> None:
    added = registry.add(card("two", version="2.5"))

    assert (added.entries["two"].status, added.entries["two"].versions) == ("retired", ">=2")
    assert added.admits(card("two", version="2.5")) == "the registry lists it as retired"
    assert "  # Kept for the records of 2025.\n  two:\n" in (tmp_path / "registry.yaml").read_text()


def test_a_layout_that_would_be_lost_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    entry = f"{{distribution: a, versions: '', card: '{'2' * 64}', status: retired}}"
    before = f"registry: 1\nplugins: {{two: {entry}}}\n"
    path.write_text(before)

    with pytest.raises(BadInput, match="cannot be rewritten without losing its layout"):
        Registry.read(path).add(card())
    assert path.read_text() == before


def test_a_broken_plugin_is_not_added(registry: Registry) -> None:
    with pytest.raises(PluginFault, match="no card"):
        registry.add(Card("one", "one", "atlas-one", "1", fault="no card"))


def test_the_difference_is_shown_three_ways(registry: Registry) -> None:
    listed = registry.add(card()).add(card("three"))
    broken = Card("four", "four", "atlas-four", "1", fault="its package cannot be found")
    catalog = Catalog((card(data=CARD + b"#"), card("three"), card("five"), broken))

    assert listed.check(catalog) == (
        Difference("five", "not listed", "atlas-five 0.3.1"),
        Difference("four", "broken", "atlas-four 1: its package cannot be found"),
        Difference("one", "changed", "atlas-one 0.3.1: its card changed since it was admitted"),
        Difference("two", "not installed", "atlas-two >=2, retired"),
    )


def test_the_file_beside_the_manifest_comes_first(registry: Registry, tmp_path: Path) -> None:
    inner = tmp_path / "study"
    inner.mkdir()
    (inner / "registry.yaml").write_text("registry: 1\n")

    assert Registry.find(inner).path == inner / "registry.yaml"


def test_the_file_of_the_project_comes_second(registry: Registry, tmp_path: Path) -> None:
    inner = tmp_path / "runs" / "one"
    inner.mkdir(parents=True)

    assert Registry.find(inner).path == registry.path


def test_the_search_ends_at_the_root_of_the_project(registry: Registry, tmp_path: Path) -> None:
    inner = tmp_path / "project"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("")

    assert Registry.find(inner).path == ROOT / "registry.yaml"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("plugins: {}", "not a registry of format 1"),
        ("registry: 2", "not a registry of format 1"),
        ("[", "not YAML"),
        ("registry: 1\nplugin: {}", "the registry's keys are"),
        ("registry: 1\nplugins: [one]", "the registry's keys are"),
        ("registry: 1\nplugins: {one: {colour: red}}", "the entry 'one' has other keys"),
        ("registry: 1\nplugins: {one: {distribution: 1}}", "has no text `distribution`"),
        (HEAD + TWO.replace("2" * 64, "2"), "`card` is no sha256"),
        (HEAD + TWO.replace("retired", "tired"), "unknown status 'tired'"),
        (HEAD + TWO.replace(">=2", "two"), "Invalid specifier"),
        (HEAD + TWO.replace("targets: [rock]", "targets: rock"), "`offers` are lists of names"),
        ("registry: 1\nplugins: {one: &a {}, two: *a}", "the registry holds an alias"),
        ("registry: 1\n" + "#" * (2 << 20), "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_registry_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(text)

    with pytest.raises(BadInput) as caught:
        Registry.find(tmp_path)

    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)


def test_installed_plugins_are_checked_by_their_entry_points(registry: Registry, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "atlas_one").mkdir(parents=True)
    (site / "atlas_one" / "__init__.py").write_text("raise SystemExit('imported')")
    (site / "atlas_one" / "atlas-plugin.yaml").write_bytes(CARD)
    info = site / "atlas_one-0.3.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: atlas-one\nVersion: 0.3.1\n")
    (info / "entry_points.txt").write_text("[atlas.plugins]\none = atlas_one.plugin\n")
    registry.add(card())
    code = (
        "from pathlib import Path; from atlas.catalog import discover; from atlas.registry import Registry\n"
        f"print([d for d in Registry.find(Path({str(tmp_path)!r})).check(discover()) if d.plugin == 'one'])\n"
        f"print(Registry.find(Path({str(tmp_path)!r})).admits(discover().card('one')))"
    )

    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(site)!r}, {str(ROOT)!r}]\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("[]\nNone\n", "")


@pytest.mark.slow
def test_a_wheel_carries_the_registry(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "registry.yaml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    (source / "README.md").touch()
    shutil.copytree(ROOT / "atlas", source / "atlas", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"

    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)

    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    assert wheel.read("atlas/registry.yaml") == (ROOT / "registry.yaml").read_bytes()
