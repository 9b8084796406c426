"""The governed run from manifest to bundle, by the command line; each condition of Tier A removed once."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import pytest

from atlas.testing import Atlas

GAUGE = Path(__file__).parent / "gauge"

MANIFEST = """\
atlas: 1
name: governed-gauge
lineage: SML
seed: 7
governance: {use: cisp, version: "1.1", operator: A. Technician, bsa_record: RECORD}
stimulus: {use: bsa, version: "0.2", where: {tier: [contested]}, each: pair, limit: 4}
steps:
  - {id: gauge, use: gauge, params: {draws: 16}}
  - {id: synthesis, use: synthesis, params: {adapter: manual}, sees: [{from: gauge.raw}, {from: read-1}]}
"""

READ_0 = """\
# Read #0
I expect the mean to lie near one half, since the draws are uniform between zero and one, and the number of
characters to lie between four hundred and two thousand for two claims. I predict HOLD. A mean below 0.2 would
surprise me, because sixteen draws would then be badly off.
"""
READ_1 = """\
# Read #1
The mean came out within two standard errors of one half for both pairs. The character counts are as
predicted and I make nothing more of them than that the claims are of similar length.
"""
READ_2 = """\
# Read #2
Read and synthesis agree that the mean is near one half. They contradict each other nowhere. My final
finding is that the gauge counts as it should, and I change nothing in what I wrote before.
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry that admits the gauge, and a behavioural record imported."""
    atlas = Atlas(tmp_path_factory.mktemp("prepared"), {"PYTHONPATH": str(GAUGE)})
    atlas.write("registry.yaml", "registry: 1\n")
    for plugin in ("gauge", "cisp", "ecm", "synthesis"):
        assert atlas("registry", "add", plugin).code == 0
    _import_record(atlas)
    return atlas.folder


@pytest.fixture
def desk(prepared: Path, tmp_path: Path) -> Atlas:
    """The command line in a copy of the prepared folder, without an editor."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return Atlas(tmp_path, {"PYTHONPATH": str(GAUGE), "EDITOR": "", "VISUAL": ""})


def _import_record(atlas: Atlas) -> None:
    template = atlas("bsa", "template", "--model", "m1=AAA", "--model", "m2=BBB", "--model", "m3=BBB")
    rows = list(csv.DictReader(io.StringIO(template.out)))
    for number, row in enumerate(rows):
        row["score"] = str(40 + number % 20)
        row["answer"] = f"I would say {row['score']}."
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    atlas.write("answers.csv", buffer.getvalue())
    outcome = atlas("bsa", "import", "answers.csv", "--lineage", "SML", "--operator", "A. Technician")
    assert outcome.code == 0, outcome.err


def _start(atlas: Atlas, manifest: str = MANIFEST) -> str:
    record = atlas.runs()[0].name
    atlas.write("governed.yaml", manifest.replace("RECORD", record))
    outcome = atlas("run", "governed.yaml")
    assert outcome.code == 75, outcome.err
    return atlas.runs()[-1].name


def _answer(atlas: Atlas, run: str, gate: str) -> None:
    """Answer one gate as the documentation says, and go on."""
    if gate == "sanitisation":
        draft = atlas.view(run).root / "drafts" / "sanitisation.md"
        assert atlas("answer", run, gate).code == 2  # no editor here: it leaves the draft and says so
        atlas.write("sheet.md", draft.read_text().replace("[ ]", "[x]"))
        outcome = atlas("answer", run, gate, "--file", "sheet.md")
    elif gate == "synthesis":
        atlas.write("output.md", "The mean is near one half; the counts differ little.\n")
        outcome = atlas("answer", run, gate, "--file", "output.md")
    else:
        text = {"read-0": READ_0, "read-1": READ_1, "read-2": READ_2}[gate]
        atlas.write(f"{gate}.md", text)
        outcome = atlas("read", gate[-1], run, "--file", f"{gate}.md")
    assert outcome.code == 0, outcome.err


GATES = ("sanitisation", "read-0", "read-1", "synthesis", "read-2")


def _finish(atlas: Atlas, run: str, *, skipped: str | None = None) -> None:
    for gate in GATES:
        waiting = atlas.view(run).waiting_for
        if waiting is None or waiting.id != gate:
            continue
        if gate == skipped:
            assert atlas("skip", run, gate, "--reason", "left out by the test").code == 0
        else:
            _answer(atlas, run, gate)
        outcome = atlas("resume", run)
        assert outcome.code in (0, 75), outcome.err


def test_the_documented_steps_reach_tier_a(desk: Atlas) -> None:
    run = _start(desk)

    _finish(desk, run)

    shown = desk.show(run)
    assert (shown["state"], shown["tier"]) == ("done", "A"), desk("tier", run).out
    assert len({q["slice"] for q in shown["quantities"]}) == 2


def test_a_gate_names_the_next_command(desk: Atlas) -> None:
    run = _start(desk)

    outcome = desk("resume", run)

    assert outcome.code == 75
    assert f"atlas answer {run} sanitisation" in outcome.out
    assert f"atlas resume {run}" in outcome.out


@pytest.mark.parametrize(
    ("gate", "tier", "reason"),
    [
        ("sanitisation", "C", "sanitisation was skipped by A. Technician"),
        ("read-0", "C", "read-0 was skipped by A. Technician"),
        ("read-1", "B", "read-1 was skipped by A. Technician"),
        ("synthesis", "B", "no step that was given Read #1 has ended with a result"),
        ("read-2", "B", "read-2 was skipped by A. Technician"),
    ],
)
def test_each_skipped_gate_lowers_the_tier_with_its_reason(
    desk: Atlas, gate: str, tier: str, reason: str
) -> None:
    run = _start(desk)

    _finish(desk, run, skipped=gate)

    report = desk("tier", run).out
    assert desk.show(run)["tier"] == tier, report
    assert reason in report


@pytest.mark.parametrize(
    ("change", "tier"),
    [
        ((", bsa_record: RECORD", ""), "C"),
        (("params: {draws: 16}}", "params: {draws: 16}, isolation: inline}"), "B"),
        (("params: {adapter: manual}", 'params: {adapter: manual, protocol: "0.1"}'), "B"),
    ],
)
def test_each_missing_condition_of_the_manifest_lowers_the_tier(
    desk: Atlas, change: tuple[str, str], tier: str
) -> None:
    assert change[0] in MANIFEST
    run = _start(desk, MANIFEST.replace(*change))

    _finish(desk, run)

    assert desk.show(run)["tier"] == tier, desk("tier", run).out


def test_a_read_with_framework_vocabulary_is_refused_before_it_is_sealed_and_an_override_lowers_the_tier(
    desk: Atlas,
) -> None:
    run = _start(desk)
    for gate in ("sanitisation", "read-0"):
        _answer(desk, run, gate)
    desk("resume", run)
    desk.write("bad.md", READ_1 + "\nThe Lossyscape says viscosity proxy.\n")

    refused = desk("read", "1", run, "--file", "bad.md")
    signed = desk("read", "1", run, "--file", "bad.md", "--override", "the word is meant literally")
    desk("resume", run)
    _finish(desk, run)

    assert refused.code == 2
    assert "framework vocabulary" in refused.err
    assert signed.code == 0, signed.err
    assert desk.show(run)["tier"] == "B"


def test_the_step_sees_its_declared_inputs_and_nothing_else(desk: Atlas) -> None:
    run = _start(desk)
    _finish(desk, run)

    started = [e for e in desk.view(run).of("step-started") if e.data["step"] == "synthesis"]

    assert set(started[0].data["inputs"]) == {
        "raw/gauge/facts.json",
        "raw/gauge/lengths.csv",
        "raw/gauge/lengths.schema.json",
        "raw/gauge/quantities.csv",
        "raw/gauge/quantities.schema.json",
        "reads/read-1.md",
    }


@pytest.mark.slow
def test_the_seed_of_a_governed_run_is_bound_to_read_0(desk: Atlas) -> None:
    run, other = _start(desk), _start(desk)
    for name in (run, other):
        _finish(desk, name)

    seeds = {n: next(e for e in desk.view(n).of("step-started")).data["seed"] for n in (run, other)}

    assert seeds[run] != seeds[other]


def test_a_sealed_read_is_amended_never_replaced(desk: Atlas) -> None:
    run = _start(desk)
    for gate in ("sanitisation", "read-0"):
        _answer(desk, run, gate)

    again = desk("read", "0", run, "--file", "read-0.md")
    amended = desk("read", "0", run, "--amend", "--file", "read-0.md")

    assert again.code == 2
    assert "sealed already" in again.err
    assert amended.code == 0, amended.err
    assert "reads/read-0.amendment-1.md" in desk.view(run).artifacts


def test_an_amendment_that_a_model_would_be_given_is_checked_and_comes_before_the_handout(
    desk: Atlas,
) -> None:
    run = _start(desk)
    for gate in ("sanitisation", "read-0"):
        _answer(desk, run, gate)
    desk("resume", run)
    _answer(desk, run, "read-1")
    desk.write("bad.md", "The Lossyscape says viscosity proxy.\n")
    desk.write("plain.md", "I misread the second pair: its mean lies above one half.\n")
    desk.folder.joinpath("latin.md").write_bytes(b"caf\xe9")

    bad, latin, plain = (
        desk("read", "1", run, "--amend", "--file", f"{name}.md") for name in ("bad", "latin", "plain")
    )
    desk("resume", run)
    late = desk("read", "1", run, "--amend", "--file", "plain.md")

    assert [outcome.code for outcome in (bad, latin, plain, late)] == [2, 2, 0, 2]
    assert "framework vocabulary" in bad.err
    assert "not UTF-8" in latin.err
    assert "was handed out for step synthesis" in late.err


@pytest.mark.slow
def test_the_bundle_of_a_run_verifies_and_an_edited_read_does_not(desk: Atlas) -> None:
    run = _start(desk)
    _finish(desk, run)
    desk("pack", run, "--to", "out")
    first = (desk.folder / "out" / f"{run}.zip").read_bytes()
    desk("pack", run, "--to", "again")

    assert first == (desk.folder / "again" / f"{run}.zip").read_bytes()
    assert desk("verify", f"out/{run}.zip").code == 0
    head = re.search(r"\d+:[0-9a-f]{64}", desk("status", run).out)
    assert head is not None
    assert desk("verify", run, "--head", head.group()).code == 0

    read = desk.view(run).root / "reads" / "read-0.md"
    read.chmod(0o644)
    read.write_text(read.read_text() + "I knew it.\n")
    outcome = desk("verify", run)

    assert outcome.code == 4
    assert "reads/read-0.md" in outcome.out + outcome.err


def test_an_abandoned_run_ends_for_good(desk: Atlas) -> None:
    run = _start(desk)

    assert desk("abandon", run, "--reason", "wrong slice").code == 0
    assert desk("resume", run).code == 2
    assert desk.show(run)["state"] == "abandoned"


def test_hypotheses_are_judged_once_read_1_is_sealed_and_not_before(desk: Atlas) -> None:
    declared = (
        "declare:\n  - {id: h1, quantity: gauge.mean, group: {domain: medical}, against: {domain: legal},"
        " expect: greater}\n"
    )
    manifest = MANIFEST.replace("limit: 4", "limit: 16").replace("steps:\n", declared + "steps:\n")
    run = _start(desk, manifest)
    for gate in ("sanitisation", "read-0"):
        _answer(desk, run, gate)
        assert desk("resume", run).code == 75

    add = ("hypothesis", "add", run, "--id", "x1", "--quantity", "gauge.mean", "--expect", "less")
    later = desk(*add, "--group", "domain=legal", "--against", "domain=medical")
    before = [event.type for event in desk.view(run).events]
    _answer(desk, run, "read-1")
    desk("resume", run)

    assert (later.code, "nobody has written down yet" in later.err) == (2, True)
    assert not {"hypotheses-judged", "hypothesis-explored"} & set(before)
    after = [event.type for event in desk.view(run).events]
    assert after[len(before) :][:2] == ["gate-answered", "hypotheses-judged"]
