"""Cells that only a person may fill: how they are sealed, and that nothing else fills them."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.bundle.verify import verify
from atlas.errors import BadInput
from atlas.judgements import blank_tables, judgements, seal_judgements
from atlas.record import RunView, open_record
from atlas.run.journal import Journal
from atlas.run.workspace import LocalWorkspace
from atlas.tables import Column, TableSchema, to_csv
from atlas.testing import Atlas

SHEET = TableSchema(
    "sheet",
    1,
    "Sessions.",
    (
        Column("session", "string", "Session.", required=True),
        Column("words", "integer", "Words of the answer."),
        Column("code", "string", "The Technician's code.", enum=("FLAT", "HOLD"), judgement=True),
    ),
    ("session",),
)
ROWS = [{"session": "s1", "words": 10}, {"session": "s2", "words": 20}]


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    return LocalWorkspace(tmp_path / "runs")


@pytest.fixture
def run(workspace: LocalWorkspace) -> str:
    return workspace.create_record("ECM", "SML", tables={"sheet": (SHEET, ROWS)}, files={}, facts={"a": "b"})


def judge(workspace, run, coder="A. Technician", *, amend=False, **codes):
    table = blank_tables(workspace.view(run))[0]
    given = {(session,): {"code": value} for session, value in codes.items()}
    return seal_judgements(workspace, run, table, coder, given, via="file", amend=amend)


def judged(view: RunView) -> dict[str, dict[str, str]]:
    table = blank_tables(view)[0]
    return {
        coder: {key[0]: cells["code"] for key, cells in found.values.items()}
        for coder, found in judgements(view, table).items()
    }


def test_a_judgement_is_sealed_beside_the_table_which_stays_as_it_was(workspace, run):
    before = workspace.view(run).read("raw/ecm/sheet.csv")

    path = judge(workspace, run, s1="hold", s2="")

    view = workspace.view(run)
    assert judged(view) == {"A. Technician": {"s1": "HOLD"}}
    assert view.text(path) == "coder,via,session,code\r\nA. Technician,file,s1,HOLD\r\n"
    assert (workspace.runs / run / "raw/ecm/sheet.csv").read_bytes() == before
    assert verify(workspace.runs / run).ok


def test_coders_are_kept_apart(workspace, run):
    judge(workspace, run, "A. Technician", s1="HOLD")
    judge(workspace, run, "B.  Other ", s1="FLAT")

    assert judged(workspace.view(run)) == {"A. Technician": {"s1": "HOLD"}, "B. Other": {"s1": "FLAT"}}


def test_saying_the_same_again_seals_nothing(workspace, run):
    judge(workspace, run, s1="HOLD")

    assert judge(workspace, run, s1="HOLD") is None


def test_a_judgement_is_amended_by_another_beside_it_and_never_replaced(workspace, run):
    first = judge(workspace, run, s1="HOLD")

    with pytest.raises(BadInput, match="gave HOLD before, and now FLAT"):
        judge(workspace, run, s1="FLAT")
    second = judge(workspace, run, s1="FLAT", amend=True)

    view = workspace.view(run)
    assert judged(view) == {"A. Technician": {"s1": "FLAT"}}
    assert "s1,HOLD" in view.text(first)
    assert "s1,FLAT" in view.text(second)


@pytest.mark.parametrize(
    ("codes", "coder", "problem"),
    [
        ({"s1": "LUKEWARM"}, "A. Technician", "'LUKEWARM' is none of FLAT, HOLD"),
        ({"s9": "FLAT"}, "A. Technician", "there is no such row"),
        ({"s1": "FLAT"}, "  ", "needs its coder's name"),
    ],
)
def test_a_faulty_judgement_seals_nothing(workspace, run, codes, coder, problem):
    head = workspace.view(run).head

    with pytest.raises(BadInput, match=problem):
        judge(workspace, run, coder, **codes)

    assert workspace.view(run).head == head


def test_a_governed_run_is_closed_to_judgement_until_read_1_is_sealed(workspace, write_run):
    view = write_run(workspace.runs / "PYH-SML-20261122-001", until="measured")
    table = blank_tables(view)[0]

    with pytest.raises(BadInput, match="not open to judgement yet"):
        seal_judgements(workspace, view.run_id, table, "A", {("1",): {"code": "x"}}, via="file")


# Nothing automatic fills them: every route by which something that is no person can write into a run


def test_the_table_writer_takes_no_value_for_a_persons_cell():
    with pytest.raises(BadInput, match="stays blank"):
        to_csv(SHEET, [{"session": "s1", "code": "FLAT"}])


def test_a_record_made_from_delivered_material_takes_none_either(workspace):
    with pytest.raises(BadInput, match="stays blank"):
        workspace.create_record(
            "ECM",
            "SML",
            tables={"sheet": (SHEET, [{"session": "s1", "code": "FLAT"}])},
            files={},
            facts={},
        )


FORGER = """
from atlas.contracts import StepContext
from atlas.hookspecs import hookimpl
from atlas.tables import Column, TableSchema

SHEET = TableSchema("sheet", 1, "Sessions.", (
    Column("session", "string", "Session.", required=True),
    Column("code", "string", "Code.", judgement=True),
), ("session",))


def forge(context):
    row = {"session": "s1"}
    if context.params["column"]:
        row["code"] = "FLAT"
    context.table("sheet", [row])
    forged = b"coder,via,session,code\\r\\nA. Technician,terminal,s1,FLAT\\r\\n"
    context.attach("answers/judgements/forge.sheet.1.txt", forged)
    if context.params["named"]:
        context.attach("answers/judgements/forge.sheet.1.csv", forged)


@hookimpl
def atlas_instruments():
    return {"forge": forge}


@hookimpl
def atlas_schemas():
    return {"sheet/1": SHEET}
"""
CARD = """
api: 1
summary: Tries to judge by itself.
provides:
  instruments:
    forge:
      summary: Writes what only a person may.
      code: FRG
      phase: measure
      params:
        type: object
        additionalProperties: false
        properties: {column: {type: boolean, default: false}, named: {type: boolean, default: false}}
      outputs: {sheet: sheet/1}
      needs: {target: false, stimulus: false}
      determinism: exact
  schemas:
    sheet/1: {summary: Sessions.}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Atlas:
    plugins = tmp_path / "plugins"
    (plugins / "forger").mkdir(parents=True)
    (plugins / "forger-1.0.dist-info").mkdir()
    (plugins / "forger/__init__.py").write_text("")
    (plugins / "forger/plugin.py").write_text(FORGER)
    (plugins / "forger/atlas-plugin.yaml").write_text(CARD)
    info = plugins / "forger-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: forger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[atlas.plugins]\nforger = forger.plugin\n")
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(plugins)})
    atlas.write(
        "m.yaml",
        "{atlas: 1, name: forged, lineage: SML, seed: 1, governance: none, steps: [{id: forge, use: forge}]}",
    )
    return atlas


@pytest.mark.parametrize(
    ("setting", "problem"), [("column", "stays blank"), ("named", "the host keeps for itself")]
)
def test_an_instrument_can_write_neither_the_column_nor_a_file_of_judgements(desk, setting, problem):
    outcome = desk("run", "m.yaml", "--set", f"steps.forge.params.{setting}=true")

    assert outcome.code == 5
    assert problem in outcome.err


def test_what_an_instrument_attaches_lies_below_raw_and_judges_nothing(desk):
    assert desk("run", "m.yaml").code == 0

    view = desk.view(desk.runs()[0].name)
    assert "raw/forge/answers/judgements/forge.sheet.1.txt" in view.artifacts
    assert judged(view) == {}


def test_a_models_answer_judges_nothing_whatever_it_says(workspace, run_writer, write_run):
    # A synthesis that writes the very file, in the very form.
    root = workspace.runs / "PYH-SML-20261122-001"
    source = write_run(root.parent.parent / "elsewhere" / root.name)
    with Journal.create(root) as journal:
        run = run_writer(root, journal, dict(source.manifest))
        run.prepare(next(iter(source.links().values())))
        run.gate("sanitisation", "measure", "All boxes are ticked.")
        run.gate("read-0", "measure", "I expect the contested pair to be sharper.\n\nNothing else.")
        run.curvature()
        run.gate("read-1", "interpret", "Sharper than I thought, on both claims.")
        run.synthesis("coder,via,index,code\r\nA. Technician,terminal,1,FLAT\r\n")

    view = open_record(root)
    assert view.text("raw/synthesis/answer.md").endswith("1,FLAT\r\n")
    assert judged(view) == {}
    assert {row["code"] for row in view.tables("curvature")["spectrum"]} == {None}
