from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from atlas_cisp.commands import link
from atlas_cisp.links import link_sheet, shown, sign
from atlas_cisp.report import link_section
from cisp_stories import MOVES, QUANTITIES_MEASURED, RECORD_ID, RUN_ID, Tell, record_by_hand
from click.testing import CliRunner

from atlas.catalog import discover
from atlas.errors import BadInput
from atlas.host import Host
from atlas.run.workspace import LocalWorkspace

OTHER = "BSA-SML-20261121-001"


def workspace(tmp_path: Path, tier: str = "A", **record: Any) -> LocalWorkspace:
    record_by_hand(tmp_path / "runs" / OTHER, tier=tier, **record)
    return LocalWorkspace(tmp_path / "runs")


def test_the_sheet_is_closed_until_read_1_is_sealed(tell: Tell) -> None:
    with pytest.raises(BadInput, match="closed until Read #1"):
        link_sheet(tell(MOVES[:10]))


def test_every_entry_begins_provisional_with_what_was_measured(tell: Tell) -> None:
    sheet = link_sheet(tell())
    assert [(e.signal.id, len(e.measured), e.status) for e in sheet] == [
        ("top-eigenvalue", 2, "PROVISIONAL"),
        ("trace", 1, "PROVISIONAL"),
        ("condition-number", 1, "PROVISIONAL"),
        ("flat-spectrum", 0, "PROVISIONAL"),
    ]


def test_a_value_is_high_or_low_only_against_a_declared_reference(tell: Tell) -> None:
    moves = [*MOVES[: MOVES.index("inspect")], "links"]
    told = [str(measured).partition("; ")[2] for measured in link_sheet(tell(moves))[0].measured]
    assert told == [
        "high against the other slices of this run (above 1, below 0 of 1)",
        "neither high nor low: no reference was declared for it",
    ]


def test_a_value_is_shown_with_its_uncertainty() -> None:
    assert [shown(q) for q in (QUANTITIES_MEASURED[0], QUANTITIES_MEASURED[3], QUANTITIES_MEASURED[4])] == [
        "41.5 ± 0.02 (residual bound)",
        "812 ± 15 (standard error)",
        "undefined: lambda_min is negative",
    ]


def test_a_tier_a_record_and_a_name_lift_one_entry(tell: Tell, tmp_path: Path) -> None:
    tell()
    place = workspace(tmp_path)
    entry = sign(place, RUN_ID, "top-eigenvalue", OTHER, "A. Technician")
    head = place.view(OTHER).head
    assert entry.status == f"signed by A. Technician with {OTHER} (Tier A, head {head})"
    assert [e.status == "PROVISIONAL" for e in link_sheet(place.view(RUN_ID))] == [False, True, True, True]


@pytest.mark.parametrize(
    ("signal", "record", "by", "world", "message"),
    [
        ("top-eigenvalue", OTHER, "A", {"tier": "B"}, "ends in Tier B"),
        ("top-eigenvalue", OTHER, "A", {"pairs": ("bsa-004",)}, "does not cover bsa-005"),
        ("top-eigenvalue", OTHER, " ", {}, "needs a name"),
        ("top-eigenvalu", OTHER, "A", {}, "there is no signal"),
        ("flat-spectrum", OTHER, "A", {}, "measured nothing"),
        ("trace", RUN_ID, "A", {}, "is not finished"),
    ],
)
def test_nothing_else_lifts_an_entry(
    tell: Tell, tmp_path: Path, signal: str, record: str, by: str, world: dict[str, Any], message: str
) -> None:
    tell()
    place = workspace(tmp_path, **world)
    with pytest.raises(BadInput, match=message):
        sign(place, RUN_ID, signal, record, by)
    assert {e.status for e in link_sheet(place.view(RUN_ID))} == {"PROVISIONAL"}


def test_an_entry_is_signed_once(tell: Tell, tmp_path: Path) -> None:
    tell()
    place = workspace(tmp_path)
    sign(place, RUN_ID, "trace", OTHER, "A")
    with pytest.raises(BadInput, match="already"):
        sign(place, RUN_ID, "trace", OTHER, "B")


def test_the_command_shows_the_sheet(tell: Tell, tmp_path: Path) -> None:
    tell()
    outcome = CliRunner().invoke(link, ["show", RUN_ID], obj=workspace(tmp_path))
    assert outcome.exit_code == 0
    assert outcome.output.count("status: PROVISIONAL") == 4
    assert RECORD_ID not in outcome.output


def test_the_report_section_escapes_what_a_person_signed(tell: Tell, tmp_path: Path) -> None:
    tell()
    place = workspace(tmp_path)
    sign(place, RUN_ID, "trace", OTHER, "<script>alert(1)</script>")
    html = link_section(place.view(RUN_ID), "synthesis").html
    assert ("<script>" in html, "&lt;script&gt;" in html, html.count("PROVISIONAL")) == (False, True, 3)


def test_the_installed_card_offers_what_the_plugin_implements() -> None:
    host = Host(discover())
    offered = {(o.kind, o.name) for o in host.catalog.card("cisp").offers}
    for kind, name in offered - {("commands", "workbook"), ("commands", "link")}:
        assert callable(host.load(kind, name))
    assert len(offered) == 4
