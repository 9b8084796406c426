"""Public modules are those that the policy names; the import contract keeps plugins from the others."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
tomllib = pytest.importorskip("tomllib")  # of Python 3.11


@pytest.fixture(scope="module")
def contract():
    """The import contract of the plugins."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    return next(one for one in contracts if one["name"] == "Plugins see the public floors only")


def test_every_first_party_plugin_is_under_the_import_contract(contract):
    packages = {path.parent.name for path in (ROOT / "plugins").glob("*/src/*/atlas-plugin.yaml")}

    assert set(contract["source_modules"]) == packages


def test_a_module_of_the_host_is_public_or_kept_from_plugins(contract):
    modules = {f"atlas.{path.stem}" for path in (ROOT / "atlas").glob("[a-z]*")} - {"atlas.py"}
    table = (ROOT / "docs" / "compatibility.md").read_text("utf-8").partition("## Numbers")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `atlas.")]
    public = {name for row in rows for name in re.findall(r"`(atlas\.\w+)`", row)}

    assert public | set(contract["forbidden_modules"]) == modules
    assert public & set(contract["forbidden_modules"]) == {"atlas.testing"}  # for tests alone
