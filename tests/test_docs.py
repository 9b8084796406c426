"""The hook reference is held against the code that it describes."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import yaml

from atlas import hookspecs
from atlas.catalog import KINDS, parse_card
from atlas.contracts import StepContext

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")


def _specifications() -> dict[str, str]:
    return {
        name: str(inspect.signature(function)).partition(" ->")[0]
        for name, function in vars(hookspecs).items()
        if name.startswith("atlas_")
    }


def test_every_hook_has_a_section_with_its_arguments() -> None:
    documented = set(re.findall(r"^### (atlas_\w+\(.*\))$", PAGE, flags=re.M))

    assert documented == {name + arguments for name, arguments in _specifications().items()}


def test_every_kind_but_commands_has_a_hook() -> None:
    assert {f"atlas_{kind}" for kind in KINDS if kind != "commands"} == set(_specifications())


def test_every_member_of_the_step_context_is_documented() -> None:
    section = PAGE.split("## What an instrument is given")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)", section, flags=re.M))
    members = {name for name in dir(StepContext) if not name.startswith("_")}
    members |= set(StepContext.__annotations__)

    assert documented == members


def test_the_card_of_the_reference_is_valid() -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, flags=re.S)
    assert example is not None

    card = parse_card(
        example.group(1).encode(), plugin="decay", module="decay", distribution="decay", version="1"
    )

    assert card.fault is None
    assert {(offer.kind, offer.name) for offer in card.offers} == {
        ("instruments", "decay"),
        ("schemas", "decays/1"),
    }
    assert yaml.safe_load(example.group(1))["api"] == 1


def test_the_page_of_benchmarks_is_what_the_result_files_say() -> None:
    page = runpy.run_path(str(ROOT / "benchmarks" / "page.py"))["page"]

    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page()


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *ROOT.glob("plugins/*/README.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert broken == []
