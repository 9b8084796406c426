"""A hook that will go: its plugins work until then, and their users are told who has to act."""

import sys
import warnings
from pathlib import Path
from types import ModuleType

import pluggy
import pytest

from atlas import hookspecs
from atlas.catalog import discover
from atlas.host import DeprecatedHook, Host

PLUGINS = Path(__file__).parents[1] / "plugins"
CARD = "api: 1\nsummary: Meters.\nprovides:\n  instruments:\n    meter: {summary: A meter., code: MTR}\n"
PLUGIN = """
from atlas.hookspecs import hookimpl


@hookimpl
def atlas_meters():
    return {}


@hookimpl
def atlas_instruments():
    return {"meter": print}
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution `atlas-meters` 2.1, as pip would leave it."""
    package, info = tmp_path / "atlas_meters", tmp_path / "atlas_meters-2.1.dist-info"
    package.mkdir()
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: atlas-meters\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text("[atlas.plugins]\nmeters = atlas_meters.plugin\n")
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(PLUGIN)
    (package / "atlas-plugin.yaml").write_text(CARD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "atlas_meters", raising=False)
    monkeypatch.delitem(sys.modules, "atlas_meters.plugin", raising=False)


def specifications() -> ModuleType:
    """Return the hooks as they are, and one that will go."""
    module = ModuleType("specifications")
    vars(module).update({name: spec for name, spec in vars(hookspecs).items() if name.startswith("atlas_")})
    going = DeprecatedHook("atlas_meters is deprecated since 0.2 and goes with 0.4: offer atlas_instruments")

    def atlas_meters() -> None:
        """Offer meters."""

    vars(module)["atlas_meters"] = pluggy.HookspecMarker("atlas")(atlas_meters, warn_on_impl=going)
    return module


def test_a_hook_that_will_go_warns_with_who_and_what_and_still_works(installed: None) -> None:
    host = Host(discover(), specifications())

    with pytest.warns(DeprecatedHook) as told:
        meter = host.load("instruments", "meter")

    assert meter is print
    assert [str(warning.message) for warning in told] == [
        "plugin 'meters', atlas-meters 2.1: atlas_meters is deprecated since 0.2 and goes with 0.4: "
        "offer atlas_instruments"
    ]


def test_no_hook_of_the_first_party_plugins_will_go() -> None:
    catalog = discover()
    first_party = [card.plugin for card in catalog.cards if (PLUGINS / card.plugin).is_dir()]
    host = Host(catalog)

    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecatedHook)
        for plugin in first_party:
            host.open(plugin)

    assert len(first_party) == len(list(PLUGINS.glob("*/pyproject.toml")))
