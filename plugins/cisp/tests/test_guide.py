"""The Technician's guide is held against what exists."""

from __future__ import annotations

import re
from pathlib import Path

import click
from atlas_cisp.policy import CispPolicy
from cisp_stories import Tell

from atlas.cli import _atlas

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "governed-run.md").read_text(encoding="utf-8")


def test_every_condition_of_the_tier_is_in_the_guide_with_what_it_costs(tell: Tell) -> None:
    table = re.findall(r"^\| (.+?) \| ([BC]) \|$", PAGE, flags=re.M)
    view = tell()
    report = CispPolicy(view.manifest["governance"]).tier(view)
    assert table == [(c.name, c.otherwise) for c in report.conditions]


def test_every_command_of_the_guide_exists_with_its_options() -> None:
    lines = re.findall(r"(?:^ {4,}|`)(atlas [^`\n]+)", PAGE, flags=re.M)
    assert len(lines) > 20
    for line in lines:
        words = line.split("  ")[0].split()[1:]
        command: click.Command = _atlas
        context = click.Context(_atlas)
        while isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, line
            command = found
        known = {option for param in command.params for option in param.opts}
        assert {word for word in words if re.fullmatch(r"-{1,2}[a-z]+", word)} <= known, line
