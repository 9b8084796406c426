from __future__ import annotations

import io
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from atlas_cisp.commands import workbook
from atlas_cisp.gates import ITEMS
from atlas_cisp.workbook.cells import visible
from atlas_cisp.workbook.codes import CODES
from atlas_cisp.workbook.filling import seal_answers
from atlas_cisp.workbook.hypotheses import HYPOTHESES
from atlas_cisp.workbook.layout import SHEETS
from atlas_cisp.workbook.read import number, open_elsewhere, read_back
from atlas_cisp.workbook.write import new_copy
from cisp_stories import MOVES, READS, RUN_ID, Tell
from click.testing import CliRunner, Result
from openpyxl import load_workbook
from openpyxl.cell import MergedCell

from atlas.errors import BadInput, WaitingForHuman
from atlas.judgements import blank_tables, judgements
from atlas.record import RunView, canonical_json
from atlas.run.workspace import LocalWorkspace
from atlas.tables import Column, TableSchema, to_csv

FRESH, MEASURED, INTERPRETED, WHOLE = MOVES[:5], MOVES[:10], MOVES[:14], MOVES
TICKS = {f"san_item_{n}": "☑" for n in range(1, len(ITEMS) + 1)}


def named(book: Any, name: str) -> Any:
    title, _, place = book.defined_names[name].attr_text.rpartition("!")
    return book[title.strip("'").replace("''", "'")][place.replace("$", "")]


def fill(path: Path, **values: Any) -> Path:
    book = load_workbook(path)
    for name, value in values.items():
        named(book, name).value = value
    book.save(path)
    return path


def through_libreoffice(path: Path) -> Path:
    """Load and save a workbook with LibreOffice, as a person's program does."""
    out = path.parent / "saved"
    profile = f"-env:UserInstallation={(path.parent / 'profile').as_uri()}"
    command = ["soffice", profile, "--headless", "--convert-to", "xlsx", "--outdir", str(out), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return out / path.name


def call(view: RunView, *args: str) -> Result:
    return CliRunner().invoke(workbook, args, obj=LocalWorkspace(view.root.parent))


def state(view: RunView) -> RunView:
    return LocalWorkspace(view.root.parent).view(RUN_ID)


def test_a_copy_has_its_sheets_and_a_name_for_every_field(tell: Tell) -> None:
    book = load_workbook(new_copy(tell(FRESH)))
    assert tuple(book.sheetnames) == (*SHEETS, HYPOTHESES)
    assert set(book.defined_names) == {*TICKS, "operator", "read_0", "read_0_number", "read_1", "read_2"}
    assert {p.name: p.value for p in book.custom_doc_props.props}["atlas-run"] == RUN_ID


def test_only_fields_are_unlocked_and_boxes_have_a_list(tell: Tell) -> None:
    book = load_workbook(new_copy(tell(FRESH)))
    fields = {(cell.parent.title, cell.coordinate) for cell in (named(book, n) for n in book.defined_names)}
    open_cells = {
        (page.title, cell.coordinate)
        for page in book.worksheets
        for row in page.iter_rows()
        for cell in row
        if not isinstance(cell, MergedCell) and not cell.protection.locked
    }
    (rule,) = book[SHEETS[0]].data_validations.dataValidation
    assert open_cells == fields
    assert all(page.protection.sheet for page in book.worksheets)
    assert (rule.formula1, len(rule.sqref.ranges)) == ('"☐,☑"', len(ITEMS))


def test_a_second_copy_leaves_the_first_alone(tell: Tell) -> None:
    view = tell(FRESH)
    first = fill(new_copy(view), read_0="mine")
    before = first.read_bytes()
    second = new_copy(view)
    assert (second.name, first.read_bytes()) == (f"{RUN_ID}-2.xlsx", before)


def test_sealed_numbers_are_numbers_with_their_uncertainty(tell: Tell) -> None:
    page = load_workbook(new_copy(tell(MEASURED)))[SHEETS[1]]
    rows = [[cell.value for cell in row] for row in page.iter_rows()]
    assert ["curvature", "lambda_max", "bsa-004", None, 41.5, 0.02, "residual bound"] in [r[:7] for r in rows]


def test_the_link_sheet_opens_with_read_1(tell: Tell) -> None:
    closed = load_workbook(new_copy(tell(MEASURED)))[SHEETS[3]]
    assert [row[0].value for row in closed.iter_rows(min_row=2)] == [
        "Closed until Read #1 is sealed. Then make a fresh copy of the workbook."
    ]


def test_every_entry_of_an_open_link_sheet_is_provisional(tell: Tell) -> None:
    page = load_workbook(new_copy(tell(WHOLE)))[SHEETS[3]]
    assert {row[-1].value for row in page.iter_rows(min_row=4)} == {"PROVISIONAL"}


CLOSED = "Closed until Read #1 is sealed. Then make a fresh copy of the workbook."


def shown_of_hypotheses(view: RunView) -> list[object]:
    page = load_workbook(new_copy(view))[HYPOTHESES]
    return [cell.value for row in page.iter_rows() for cell in row if cell.value is not None]


def test_declared_hypotheses_stand_in_the_workbook_and_verdicts_are_closed(tell: Tell) -> None:
    shown = shown_of_hypotheses(tell(FRESH))
    assert ("h1" in shown, "curvature.lambda_max" in shown, shown[-1]) == (True, True, CLOSED)


def test_verdicts_open_with_read_1(tell: Tell) -> None:
    judged = shown_of_hypotheses(tell((*MOVES[:11], "judge")))
    assert CLOSED not in judged
    for value in ("contradicted", -826.5, -1610.25, -42.75, 0.9, 0.957, 0.043, "nat", 12, 9):
        assert value in judged


def test_a_skipped_read_1_leaves_verdicts_closed(tell: Tell) -> None:
    shown = shown_of_hypotheses(tell((*MOVES[:10], "skip read-1", "judge")))

    assert (shown[-1], "contradicted" in shown) == (CLOSED, False)


@pytest.mark.slow
@pytest.mark.parametrize("moves", [FRESH, (*MOVES[:11], "judge", *MOVES[11:])], ids=["fresh", "sealed"])
def test_a_workbook_that_libreoffice_saved_reads_the_same(tell: Tell, moves: tuple[str, ...]) -> None:
    view = tell(moves)
    texts = {"read_0": "Zwei Absätze.\n\n=1+1 is no formula; _x0041_ is no letter; ±0,5 λ₁ 中文 🙂"}
    path = new_copy(view)
    if moves is FRESH:
        book = load_workbook(path)
        named(book, "read_0").value = texts["read_0"]
        named(book, "read_0").data_type = "s"
        for name in TICKS:
            named(book, name).value = "☑"
        book.save(path)
    direct = read_back(path, view)
    saved = read_back(through_libreoffice(path), view)
    assert (saved.texts, saved.ticked) == (direct.texts, direct.ticked)
    if moves is FRESH:
        assert (saved.texts["read_0"], set(saved.ticked.values())) == (
            texts["read_0"].replace("_x0041_", "A"),
            {True},
        )


def test_a_filled_workbook_seals_sheet_and_read_0(tell: Tell) -> None:
    view = tell(FRESH)
    fill(new_copy(view), read_0=READS["read-0"].strip(), read_0_number="41,5", **TICKS)
    outcome = call(view, "import", RUN_ID)
    after = state(view)
    assert outcome.exit_code == 0, outcome.output
    assert [e.data["via"] for e in after.of("gate-answered")] == ["workbook", "workbook"]
    assert after.text("reads/read-0.md") == READS["read-0"] + "\nPredicted number: 41,5 (read as 41.5)\n"
    delivered = (view.root / "workbook" / f"{RUN_ID}.xlsx").read_bytes()
    assert after.read(f"evidence/read-0-{RUN_ID}.xlsx") == delivered


def test_a_half_filled_workbook_seals_what_is_whole_and_names_the_rest(tell: Tell) -> None:
    view = tell(FRESH)
    fill(new_copy(view), **TICKS)
    outcome = call(view, "import", RUN_ID)
    assert isinstance(outcome.exception, WaitingForHuman)
    assert "Technician's Read #0: your text" in str(outcome.exception)
    assert list(state(view).gates) == ["sanitisation"]


def test_an_open_box_is_named_and_nothing_after_it_is_sealed(tell: Tell) -> None:
    view = tell(FRESH)
    fill(new_copy(view), **{**TICKS, "san_item_3": "☐"}, read_0=READS["read-0"])
    outcome = call(view, "import", RUN_ID)
    assert isinstance(outcome.exception, WaitingForHuman)
    assert "line S3 is not ticked" in str(outcome.exception)
    assert not state(view).gates


def test_the_same_copy_may_be_filled_further_after_the_run_went_on(tell: Tell) -> None:
    view = tell(FRESH)
    path = fill(new_copy(view), read_0=READS["read-0"], **TICKS)
    assert call(view, "import", RUN_ID).exit_code == 0
    fill(path, read_1=READS["read-1"])
    outcome = call(view, "import", RUN_ID)
    assert (outcome.exit_code, "not yet: read-1" in outcome.output) == (0, True)
    assert "read-1" not in state(view).gates


def test_read_1_is_sealed_from_a_copy_made_after_the_measurement(tell: Tell) -> None:
    view = tell(MEASURED)
    fill(new_copy(view), read_1=READS["read-1"])
    assert call(view, "import", RUN_ID).exit_code == 0
    assert state(view).text("reads/read-1.md") == READS["read-1"]


def test_a_term_in_read_1_of_a_workbook_is_refused_and_may_be_signed(tell: Tell) -> None:
    view = tell(MEASURED)
    fill(new_copy(view), read_1="The loss landscape is steep for the first pair.")
    refused = call(view, "import", RUN_ID)
    assert isinstance(refused.exception, BadInput)
    assert "loss landscape" in str(refused.exception)
    assert call(view, "import", RUN_ID, "--override", "it is a quotation").exit_code == 0


@pytest.mark.parametrize("value", ["☑", True, "TRUE", "x", "X", "yes", "1", 1, 1.0])
def test_a_tick_is_accepted_in_the_forms_that_programs_write(tell: Tell, value: Any) -> None:
    view = tell(FRESH)
    assert read_back(fill(new_copy(view), san_item_3=value), view).ticked["san_item_3"] is True


@pytest.mark.parametrize("value", ["☐", False, "no", 0, None, " "])
def test_a_box_without_a_tick_is_open(tell: Tell, value: Any) -> None:
    view = tell(FRESH)
    assert read_back(fill(new_copy(view), san_item_3=value), view).ticked["san_item_3"] is False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"san_item_3": "maybe"}, "neither ticked nor open"),
        ({"san_item_3": "=TRUE()"}, "formula"),
        ({"read_0": '=HYPERLINK("http://example.org","x")'}, "formula"),
        ({"read_0": "x" * 32_767}, "cut off"),
    ],
)
def test_a_field_with_something_else_is_refused_by_sheet_and_cell(
    tell: Tell, values: dict[str, Any], message: str
) -> None:
    view = tell(FRESH)
    path = fill(new_copy(view), **values)
    with pytest.raises(BadInput, match=message) as caught:
        read_back(path, view)
    assert caught.value.where is not None
    assert caught.value.where.startswith("sheet ")


@pytest.mark.parametrize(
    ("sheet", "place", "value", "message"),
    [
        (SHEETS[1], "C4", "PYH-SML-20261122-009", "a locked cell was changed"),
        (SHEETS[0], "B4", None, "a locked cell was changed"),
        (SHEETS[2], "H40", "a note", "stands in no field"),
        (SHEETS[3], "A2", "=1+1", "a locked cell was changed"),
    ],
)
def test_a_change_outside_the_fields_is_refused_by_cell(
    tell: Tell, sheet: str, place: str, value: Any, message: str
) -> None:
    view = tell(FRESH)
    path = new_copy(view)
    book = load_workbook(path)
    book[sheet][place].value = value
    book.save(path)
    with pytest.raises(BadInput, match=message) as caught:
        read_back(path, view)
    assert caught.value.where == f"sheet {sheet!r}, cell {place}"


def test_an_edited_number_is_refused(tell: Tell) -> None:
    view = tell(MEASURED)
    path = new_copy(view)
    book = load_workbook(path)
    cell = next(c for row in book[SHEETS[1]].iter_rows() for c in row if c.value == 41.5)
    cell.value = 14.5
    book.save(path)
    with pytest.raises(BadInput, match=r"expected 41\.5, found 14\.5"):
        read_back(path, view)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("atlas-run", "PYH-SML-20261122-002", "belongs to PYH-SML-20261122-002"),
        ("atlas-template", "0", "has template 0"),
        ("atlas-journal-head", "5:" + "0" * 64, "another journal"),
        ("atlas-journal-head", "99:" + "0" * 64, "another journal"),
        ("atlas-run", None, "not made by Atlas"),
    ],
)
def test_a_workbook_of_another_run_template_or_journal_is_refused(
    tell: Tell, name: str, value: str | None, message: str
) -> None:
    view = tell(FRESH)
    path = new_copy(view)
    book = load_workbook(path)
    for entry in list(book.custom_doc_props.props):
        if entry.name == name:
            if value is None:
                book.custom_doc_props.props.remove(entry)
            else:
                entry.value = value
    book.save(path)
    with pytest.raises(BadInput, match=message):
        read_back(path, view)


def _bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b" " * 60_000_000)
    return buffer.getvalue()


def _entities(code: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode(code))
    return buffer.getvalue()


def _many() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(1_001):
            archive.writestr(f"f{index}", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a workbook"),
        (b"PK\x03\x04 torn", "not a workbook"),
        (b"Item;Done\nS1;x\n", "not a workbook"),
        (_bomb(), "unpacks to far more"),
        (_many(), "unpacks to far more"),
        (_entities("utf-8"), "entities"),
        (_entities("utf-16"), "entities"),
    ],
    ids=["empty", "torn", "csv", "bomb", "many", "entities", "entities16"],
)
def test_a_hostile_file_is_refused(tell: Tell, tmp_path: Path, content: bytes, message: str) -> None:
    view = tell(FRESH)
    path = tmp_path / "w.xlsx"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_back(path, view)


def test_every_cut_of_a_workbook_is_refused_with_one_kind_of_error(tell: Tell, tmp_path: Path) -> None:
    view = tell(FRESH)
    content = new_copy(view).read_bytes()
    path = tmp_path / "w.xlsx"
    for length in range(0, len(content) - 1, len(content) // 40):
        path.write_bytes(content[:length])
        with pytest.raises(BadInput):
            read_back(path, view)


@pytest.mark.parametrize(("note", "program"), [(".~lock.{}#", "LibreOffice"), ("~${}", "Excel")])
def test_a_workbook_open_elsewhere_is_warned_of_and_read_as_saved(
    tell: Tell, note: str, program: str
) -> None:
    view = tell(FRESH)
    path = fill(new_copy(view), read_0=READS["read-0"], **TICKS)
    assert open_elsewhere(path) is None
    (path.parent / note.format(path.name)).write_text("A. Technician")
    outcome = call(view, "import", RUN_ID)
    assert (outcome.exit_code, f"is open in {program}" in outcome.stderr) == (0, True)
    assert set(state(view).gates) == {"sanitisation", "read-0"}


def test_a_file_that_another_program_holds_is_a_clear_error(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = tell(FRESH)
    path = new_copy(view)

    def held(_: Path) -> bytes:
        raise PermissionError(
            13, "The process cannot access the file because it is being used by another process"
        )

    monkeypatch.setattr(Path, "read_bytes", held)
    with pytest.raises(BadInput, match="close it in the program that has it open") as caught:
        read_back(path, view)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("41.5", 41.5),
        ("41,5", 41.5),
        (" -0,125 ", -0.125),
        ("1e-3", 1e-3),
        ("\u22123", -3.0),
        ("1,23e4", 12300.0),
    ],
)
def test_a_number_may_have_a_decimal_comma(text: str, value: float) -> None:
    assert number(text, "here") == value


@pytest.mark.parametrize("text", ["1,234", "1.234,5", "1,2,3", "forty", "41 m", "nan", "1e999", ""])
def test_a_number_that_may_be_read_in_two_ways_or_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        number(text, "here")


def test_hostile_texts_are_shown_as_text(tell: Tell) -> None:
    text = "=cmd|'/c calc'!A1 \x00\x1b[31m \u202eevil _x0041_ ]]> <b> \ud800"
    view = tell(
        MOVES, answers={**_answers(), "read-2": "=1+1 \x1b \u202e _x0041_ ]]>&<b>\n" + READS["read-2"]}
    )
    page = load_workbook(new_copy(view))[SHEETS[2]]
    shown = [c for row in page.iter_rows() for c in row if isinstance(c.value, str) and "=1+1" in c.value]
    assert [(c.data_type, "\u2039U+001B\u203a \u2039U+202E\u203a" in c.value) for c in shown] == [("s", True)]
    assert read_back(new_copy(view), view).texts["operator"] == "A. Technician"
    assert not set(visible(text, "x")) & {"\x00", "\x1b", "\u202e", "\ud800"}


def _answers() -> dict[str, str]:
    from cisp_stories import TICKED

    return {"sanitisation": TICKED, **READS}


def test_a_text_longer_than_a_cell_is_refused_and_not_cut(tell: Tell) -> None:
    view = tell(MOVES, answers={**_answers(), "read-2": "word " * 7_000})
    with pytest.raises(BadInput, match="holds 32767 and would cut it") as caught:
        new_copy(view)
    assert caught.value.where == "reads/read-2.md"
    assert not (view.root / "workbook").exists()


def test_what_import_prints_survives_a_cp1252_console(tell: Tell) -> None:
    view = tell(FRESH)
    fill(new_copy(view), **{**TICKS, "san_item_1": "☐"})
    outcome = CliRunner(charset="cp1252").invoke(
        workbook, ["import", RUN_ID], obj=LocalWorkspace(view.root.parent)
    )
    str(outcome.exception).encode("cp1252")
    assert isinstance(outcome.exception, WaitingForHuman)


def test_a_run_that_is_not_governed_has_no_workbook(tell: Tell) -> None:
    from cisp_stories import MANIFEST

    view = tell(FRESH, manifest={**MANIFEST, "governance": "none"})
    outcome = call(view, "new", RUN_ID)
    assert "not governed by cisp" in str(outcome.exception)


def test_a_refused_read_0_leaves_the_sealed_sheet_sealed(tell: Tell) -> None:
    view = tell(FRESH)
    path = fill(new_copy(view), read_0="ok", **TICKS)
    place = LocalWorkspace(view.root.parent)
    with pytest.raises(BadInput, match="read-0 is not sealed yet"):
        seal_answers(place, RUN_ID, read_back(path, view), author=None, override=None)
    assert list(state(view).gates) == ["sanitisation"]


# Codes

SESSIONS = TableSchema(
    "sessions",
    1,
    "Sessions.",
    (
        Column("session", "string", "Session.", required=True),
        Column("stance", "string", "Stance.", enum=("Compliant", "Combative"), judgement=True),
        Column("resolution_code", "string", "Code.", enum=("FLAT", "HOLD"), judgement=True),
    ),
    ("session",),
)


def with_sessions(view: RunView) -> RunView:
    """Seal a table of two sessions, whose codes are blank, in a run."""
    workspace = LocalWorkspace(view.root.parent)
    rows = to_csv(SESSIONS, [{"session": "=s1"}, {"session": "s2"}])
    workspace.attach(view.run_id, "raw/ecm/sessions.csv", rows, role="table")
    descriptor = canonical_json(SESSIONS.descriptor())
    workspace.attach(view.run_id, "raw/ecm/sessions.schema.json", descriptor, role="schema")
    return workspace.view(view.run_id)


def codes_of(view: RunView) -> dict[str, dict[str, dict[str, str]]]:
    found = judgements(view, blank_tables(view)[0])
    return {coder: {key[0]: dict(v) for key, v in given.values.items()} for coder, given in found.items()}


def test_codes_given_in_a_workbook_are_sealed_with_it_under_its_operator(tell: Tell) -> None:
    view = with_sessions(tell(WHOLE))
    path = new_copy(view)
    rules = [
        (r.formula1, len(r.sqref.ranges)) for r in load_workbook(path)[CODES].data_validations.dataValidation
    ]
    fill(path, code_0_0_stance="combative", code_0_0_resolution_code="HOLD", code_0_1_stance=None)

    outcome = call(view, "import", RUN_ID, str(path))

    assert outcome.exit_code == 0, outcome.output
    assert rules == [('"Compliant,Combative"', 2), ('"FLAT,HOLD"', 2)]
    assert codes_of(state(view)) == {
        "A. Technician": {"=s1": {"stance": "Combative", "resolution_code": "HOLD"}}
    }
    assert state(view).read("evidence/ecm.sessions.1.xlsx") == path.read_bytes()


def test_a_second_coder_fills_a_copy_that_shows_nothing_of_the_first(tell: Tell) -> None:
    view = with_sessions(tell(WHOLE))
    call(view, "import", RUN_ID, str(fill(new_copy(view), code_0_1_resolution_code="HOLD")))
    second = new_copy(state(view))
    assert named(load_workbook(second), "code_0_1_resolution_code").value is None

    outcome = call(
        view, "import", RUN_ID, str(fill(second, code_0_1_resolution_code="flat")), "--by", "B. Other"
    )

    assert outcome.exit_code == 0, outcome.output
    assert codes_of(state(view)) == {
        "A. Technician": {"s2": {"resolution_code": "HOLD"}},
        "B. Other": {"s2": {"resolution_code": "FLAT"}},
    }


def test_a_code_that_is_none_seals_nothing(tell: Tell) -> None:
    view = with_sessions(tell(WHOLE))

    outcome = call(view, "import", RUN_ID, str(fill(new_copy(view), code_0_0_resolution_code="MAYBE")))

    assert "'MAYBE' is none of FLAT, HOLD" in str(outcome.exception)
    assert codes_of(state(view)) == {}


def test_the_sheet_of_codes_is_not_there_until_read_1_is_sealed(tell: Tell) -> None:
    view = with_sessions(tell(MEASURED))

    assert CODES not in load_workbook(new_copy(view)).sheetnames
