from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bagit
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from atlas.bundle.bag import pack
from atlas.bundle.columns import fits
from atlas.bundle.grade import grade, identical_tables, obstacles
from atlas.bundle.opening import opened, unpack_safely
from atlas.bundle.verify import verify
from atlas.errors import BadInput, IntegrityBroken
from atlas.quantities import Agreement, Quantity
from atlas.record import GENESIS, RunView, canonical_json, open_record
from atlas.run.inventory import record_environment
from atlas.tables import Column, TableSchema, read_csv

Entry = dict[str, Any]


def forge(root: Path, edit: Callable[[list[Entry]], list[Entry]]) -> RunView:
    """Rewrite a journal so that its chain holds again: what a careful forger would do."""
    path = root / "journal.jsonl"
    entries = edit([json.loads(line) for line in path.read_bytes().splitlines()])
    previous, lines = GENESIS, []
    for number, entry in enumerate(entries):
        entry |= {"seq": number, "prev": previous, "time": max(entry["time"], entries[0]["time"])}
        lines.append(canonical_json(entry))
        previous = hashlib.sha256(lines[-1]).hexdigest()
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return open_record(root)


def find(entries: list[Entry], type: str, **data: object) -> int:
    return next(
        n
        for n, e in enumerate(entries)
        if e["type"] == type and all(e["data"].get(k) == v for k, v in data.items())
    )


def unzip(bundle: Path, folder: Path) -> Path:
    unpack_safely(bundle, folder)
    return next(folder.iterdir())


# Packing


def test_a_run_packs_to_the_same_bytes_twice_and_from_another_folder(
    governed: RunView, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    first = pack(governed, tmp_path / "a").read_bytes()
    shutil.copytree(governed.root, tmp_path / "moved" / governed.root.name)
    for file in (tmp_path / "moved").rglob("*"):
        os.utime(file, (1, 1))
    assert pack(governed, tmp_path / "b").read_bytes() == first
    assert pack(open_record(tmp_path / "moved" / governed.root.name), tmp_path / "c").read_bytes() == first


def test_nothing_in_a_zip_tells_when_or_by_whom_it_was_packed(governed: RunView, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(governed, tmp_path)) as bundle:
        members = bundle.infolist()
    stamps = {(m.date_time, m.create_system, m.external_attr, m.compress_type) for m in members}
    assert stamps == {((1980, 1, 1, 0, 0, 0), 3, 0o100644 << 16, zipfile.ZIP_STORED)}
    assert [m.filename for m in members] == sorted(m.filename for m in members)


def test_a_bundle_holds_every_sealed_file_byte_for_byte(governed: RunView, tmp_path: Path) -> None:
    bag = unzip(pack(governed, tmp_path), tmp_path / "out")
    packed = {path: (bag / "data" / path).read_bytes() for path in governed.artifacts}
    assert packed == {path: governed.read(path) for path in governed.artifacts}


def test_the_bag_is_valid_for_the_bagit_library_and_for_sha256sum(governed: RunView, tmp_path: Path) -> None:
    bag = unzip(pack(governed, tmp_path), tmp_path / "out")
    assert bagit.Bag(str(bag)).validate()
    if shutil.which("sha256sum") is not None:
        command = ["sha256sum", "--check", "--quiet", "--strict", "manifest-sha256.txt"]
        assert subprocess.run(command, cwd=bag, check=False).returncode == 0


def test_the_bagging_date_is_that_of_the_journal(governed: RunView, tmp_path: Path) -> None:
    forge(governed.root, lambda entries: [e | {"time": "2001-02-03T04:05:06.000+00:00"} for e in entries])
    bag = unzip(pack(open_record(governed.root), tmp_path), tmp_path / "out")
    assert bagit.Bag(str(bag)).info["Bagging-Date"] == "2001-02-03"


def test_a_damaged_run_is_not_packed(governed: RunView, tmp_path: Path) -> None:
    (governed.root / "reads/read-0.md").write_text("I always knew.")
    with pytest.raises(IntegrityBroken, match=r"reads/read-0\.md"):
        pack(governed, tmp_path)
    assert not list(tmp_path.glob("*.zip*"))


def test_a_torn_line_is_not_packed(governed: RunView, tmp_path: Path) -> None:
    whole = (governed.root / "journal.jsonl").read_bytes()
    (governed.root / "journal.jsonl").write_bytes(whole + b'{"data":')
    bag = unzip(pack(governed, tmp_path), tmp_path / "out")
    assert (bag / "data/journal.jsonl").read_bytes() == whole


def test_hidden_files_and_links_stay_at_home(governed: RunView, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    (governed.root / "logs/.env").write_text("key")
    if os.name != "nt":
        (governed.root / "logs/link").symlink_to(tmp_path / "secret")
    bag = unzip(pack(governed, tmp_path), tmp_path / "out")
    assert sorted(p.name for p in (bag / "data/logs").iterdir()) == ["curvature.1.stdout.txt"]


# The crate and the data package


@pytest.fixture
def payload(governed: RunView, tmp_path: Path) -> Path:
    return unzip(pack(governed, tmp_path), tmp_path / "out") / "data"


def graph(payload: Path) -> dict[str, Entry]:
    content = json.loads((payload / "ro-crate-metadata.json").read_bytes())
    return {entity["@id"]: entity for entity in content["@graph"]}


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [value["@id"]] if set(value) == {"@id"} else [r for v in value.values() for r in references(v)]
    return [r for v in value for r in references(v)] if isinstance(value, list) else []


def test_every_reference_in_the_crate_leads_to_an_entity(payload: Path) -> None:
    entities = graph(payload)
    named = {r for entity in entities.values() for key in entity for r in references(entity[key])}
    assert named - set(entities) == {"https://w3id.org/ro/crate/1.1"}


def test_the_crate_gives_each_file_its_size_and_digest(payload: Path) -> None:
    files = {i: e for i, e in graph(payload).items() if e["@type"] == "File"}
    observed = {i: (e["contentSize"], e["sha256"]) for i, e in files.items()}
    contents = {
        path.relative_to(payload).as_posix(): path.read_bytes()
        for path in payload.rglob("*")
        if path.is_file() and path.name != "ro-crate-metadata.json"
    }
    assert observed == {p: (str(len(c)), hashlib.sha256(c).hexdigest()) for p, c in contents.items()}


def test_a_step_is_an_action_with_its_instrument_inputs_and_results(payload: Path) -> None:
    entities = graph(payload)
    action = entities["#step-curvature-1"]
    assert action["@type"] == "CreateAction"
    assert entities[action["instrument"]["@id"]]["softwareVersion"] == "0.1.0"
    assert {"@id": "stimulus/items.jsonl"} in action["object"]
    assert {"@id": "raw/curvature/quantities.csv"} in action["result"]
    assert entities[action["agent"]["@id"]]["name"] == "A. Technician"


def test_times_in_the_crate_have_an_offset_and_no_z(payload: Path) -> None:
    actions = [e for e in graph(payload).values() if e["@type"] == "CreateAction"]
    times = [action[key] for action in actions for key in ("startTime", "endTime")]
    assert [time[-6:] for time in times] == ["+00:00"] * 4


def test_the_data_package_lists_each_table_with_its_schema_and_digest(payload: Path) -> None:
    resources = json.loads((payload / "datapackage.json").read_bytes())["resources"]
    observed = {r["path"]: (r["bytes"], r["hash"], r["schema"]) for r in resources}
    expected = {}
    for path in ("raw/curvature/quantities.csv", "raw/curvature/spectrum.csv"):
        data = (payload / path).read_bytes()
        schema = json.loads((payload / path.replace(".csv", ".schema.json")).read_bytes())
        expected[path] = (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}", schema)
    assert observed == expected


# Zips from strangers


def write_zip(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members:
            bundle.writestr(name, content)
    return path


def link(name: str, target: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member, target


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "a/../../x", "/etc/x", "//server/x", "C:/x", "C:x", "a\\..\\x", "a//x", "./x", "a/./x"),
        *("a/nul", "COM1.txt", "a /x", "a./x", ".hidden", "a/.git/config", "a\u202etxt", "a\nb", "a:b"),
    ],
)
def test_a_member_with_an_unsafe_name_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    bundle = write_zip(tmp_path / "x.zip", (zipfile.ZipInfo("good"), b"1"), (zipfile.ZipInfo(name), b"2"))
    with pytest.raises(IntegrityBroken, match="refused"):
        unpack_safely(bundle, tmp_path / "in")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "x.zip"]


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    bundle = write_zip(tmp_path / "x.zip", link("a", b"/etc"), ("a/passwd", b"root"))
    with pytest.raises(IntegrityBroken, match="a link"):
        unpack_safely(bundle, tmp_path / "in")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "A"), ("a/b", "a/B")])
def test_a_member_that_is_there_twice_is_refused(names: tuple[str, str], tmp_path: Path) -> None:
    bundle = write_zip(tmp_path / "x.zip", *((name, b"1") for name in names))
    with pytest.raises(IntegrityBroken, match="twice"):
        unpack_safely(bundle, tmp_path / "in")


def test_a_bomb_is_refused_before_it_is_expanded(tmp_path: Path) -> None:
    bundle = write_zip(tmp_path / "x.zip", *((f"{n}.csv", bytes(12 << 20)) for n in range(3)))
    with pytest.raises(IntegrityBroken, match="times its size"):
        unpack_safely(bundle, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_damaged_zip_is_a_finding_and_no_zip_is_bad_input(governed: RunView, tmp_path: Path) -> None:
    bundle = pack(governed, tmp_path)
    data = bytearray(bundle.read_bytes())
    data[data.index(b"I expect the contested")] ^= 1
    bundle.write_bytes(data)
    assert [f.file for f in verify(bundle).findings] == [f"{governed.run_id}/data/reads/read-0.md"]
    bundle.write_bytes(b"hello")
    with pytest.raises(BadInput, match="not a zip"):
        verify(bundle)


# Verification


def test_a_run_a_bag_and_a_zip_verify(governed: RunView, tmp_path: Path) -> None:
    bundle = pack(governed, tmp_path)
    places = (governed.root, unzip(bundle, tmp_path / "out"), tmp_path / "out", bundle)
    assert [verify(place, head=str(governed.head)).findings for place in places] == [()] * 4


def test_the_report_says_what_is_proven_and_what_is_not(governed: RunView) -> None:
    text = verify(governed.root, head=str(governed.head)).text()
    for part in (
        "nothing is wrong",
        "read-0 was sealed before the first step started (line 9 before line 11)",
        "the seed of step curvature is derived from the journal as read-0 was sealed",
        "the copy of BSA-SML-20261122-001 is the record that was linked",
        "that no trial was made in private",
        f"head {governed.head}",
    ):
        assert part in text


SEALED = (
    *("manifest.yaml", "manifest.resolved.yaml", "stimulus/items.jsonl", "environment/python.json"),
    *("raw/curvature/quantities.csv", "raw/curvature/spectrum.schema.json", "raw/synthesis/answer.md"),
    *("reads/read-0.md", "reads/read-2.md", "records/BSA-SML-20261122-001/raw/bsa/scores.csv"),
)


@pytest.mark.parametrize("path", SEALED)
def test_an_edited_sealed_file_is_named(path: str, governed: RunView) -> None:
    file = governed.root / path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert {f.file for f in verify(governed.root).findings} == {path}


@pytest.mark.parametrize("path", SEALED)
def test_a_sealed_file_that_is_gone_is_named(path: str, governed: RunView) -> None:
    (governed.root / path).unlink()
    assert {f.file for f in verify(governed.root).findings} == {path}


def test_an_edited_file_in_a_bag_with_new_manifests_is_still_named(governed: RunView, tmp_path: Path) -> None:
    bag = unzip(pack(governed, tmp_path), tmp_path / "out")
    (bag / "data/reads/read-0.md").write_text("I always knew.")
    assert {f.file for f in verify(bag).findings} == {"data/reads/read-0.md", "reads/read-0.md"}
    bagit.Bag(str(bag)).save(manifests=True)
    assert {f.file for f in verify(bag).findings} == {"reads/read-0.md"}


def test_a_file_added_to_a_bag_is_named(governed: RunView, tmp_path: Path) -> None:
    bag = unzip(pack(governed, tmp_path), tmp_path / "out")
    (bag / "data/raw/extra.csv").write_text("x")
    report = verify(bag)
    assert {f.file for f in report.findings} == {"data/raw/extra.csv"}
    assert report.unsealed == ("raw/extra.csv",)


def test_a_changed_byte_anywhere_in_the_journal_is_found_with_the_head(governed: RunView) -> None:
    path, head = governed.root / "journal.jsonl", str(governed.head)
    data = path.read_bytes()
    missed = []
    for place in range(0, len(data), 61):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        if verify(governed.root, head=head).ok:
            missed.append(place)
    assert missed == []


def test_an_edited_journal_line_is_named(governed: RunView) -> None:
    path = governed.root / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"author":"A. Technician"', b'"author":"B. Technician"', 1))
    (finding,) = verify(governed.root).findings
    assert (finding.file, finding.what) == (
        "journal.jsonl:8",
        "the chain is broken: this line does not follow",
    )


def test_a_dropped_last_line_shows_against_the_head_alone(governed: RunView) -> None:
    forge(governed.root, lambda entries: entries[:-1])
    without = verify(governed.root)
    assert without.ok and any("no head was given" in note for note in without.notes)
    (finding,) = verify(governed.root, head=str(governed.head)).findings
    assert finding.what == "1 line(s) are missing at the end: the head you gave has 27"


def test_a_rewritten_record_shows_against_the_head_alone(governed: RunView) -> None:
    def edit(entries: list[Entry]) -> list[Entry]:
        entries[find(entries, "gate-answered", gate="read-2")]["data"]["author"] = "Another"
        return entries

    forge(governed.root, edit)
    assert verify(governed.root).ok
    (finding,) = verify(governed.root, head=str(governed.head)).findings
    assert finding.what.startswith("the record was rewritten")


def test_a_journal_that_has_grown_since_contains_the_head(governed: RunView, run_writer: Any) -> None:
    older = governed.head_after(governed.events[8])
    report = verify(governed.root, head=str(older))
    assert report.ok and any("18 line(s) were added since" in line for line in report.proven)


@pytest.mark.parametrize("head", ["", "12", "x:" + "0" * 64, "12:" + "g" * 64, "12:abc", "-1:" + "0" * 64])
def test_a_head_of_another_form_is_bad_input(head: str, governed: RunView) -> None:
    with pytest.raises(BadInput, match="no journal head"):
        verify(governed.root, head=head)


def test_a_torn_last_line_is_a_note_and_no_fault(governed: RunView) -> None:
    with (governed.root / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"data":')
    report = verify(governed.root)
    assert report.ok and report.notes[0].startswith("8 bytes of an unfinished line")


def test_unsealed_files_are_listed(governed: RunView) -> None:
    (governed.root / "raw/curvature/better.csv").write_text("lambda\n1\n")
    (governed.root / "report.html").write_text("<p>")
    report = verify(governed.root)
    assert (report.ok, report.unsealed) == (True, ("raw/curvature/better.csv",))


def test_a_link_in_a_run_folder_is_named(governed: RunView, tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("links need a privilege on Windows")
    path = governed.root / "reads/read-0.md"
    (tmp_path / "elsewhere.md").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere.md")
    assert "a symbolic link has no place in a record" in [f.what for f in verify(governed.root).findings]


def test_a_linked_record_that_was_exchanged_is_named(governed: RunView) -> None:
    folder = governed.root / "records/BSA-SML-20261122-001"

    def edit(entries: list[Entry]) -> list[Entry]:
        entries[-1]["data"]["tier"] = "A"
        return entries

    forge(folder, edit)
    (finding,) = verify(governed.root).findings
    assert finding.file == "records/BSA-SML-20261122-001/journal.jsonl"
    assert finding.what.startswith("not the record that was linked")


def test_a_table_that_breaks_its_schema_is_named(governed: RunView) -> None:
    path = "raw/curvature/spectrum.csv"
    data = governed.read(path).replace(b"41.52", b"large")
    (governed.root / path).write_bytes(data)

    def edit(entries: list[Entry]) -> list[Entry]:
        (item,) = (i for e in entries for i in e["data"].get("sealed", ()) if i["path"] == path)
        item |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return entries

    forge(governed.root, edit)
    (finding,) = verify(governed.root).findings
    assert finding.file == f"{path}:3, column eigenvalue"
    assert finding.what == "the table does not fit its schema: expected a number, found 'large'"


def move(entries: list[Entry], source: int, target: int) -> list[Entry]:
    entries.insert(target, entries.pop(source))
    return entries


def read_after_the_step(entries: list[Entry]) -> list[Entry]:
    return move(entries, find(entries, "gate-answered", gate="read-0"), find(entries, "step-finished"))


def gate_after_the_step(entries: list[Entry]) -> list[Entry]:
    entries = move(entries, find(entries, "gate-answered", gate="read-0"), find(entries, "step-finished"))
    return move(
        entries,
        find(entries, "gate-opened", gate="read-0"),
        find(entries, "gate-answered", gate="read-0") - 1,
    )


def model_before_the_read(entries: list[Entry]) -> list[Entry]:
    return move(entries, find(entries, "target-fetched"), find(entries, "gate-answered", gate="read-0"))


def read_1_before_the_measurement(entries: list[Entry]) -> list[Entry]:
    return move(
        entries, find(entries, "gate-opened", gate="read-1"), find(entries, "stage-done", stage="measure")
    )


def other_seed(entries: list[Entry]) -> list[Entry]:
    entries[find(entries, "step-started", step="curvature")]["data"]["seed"] = "12345"
    return entries


def other_input(entries: list[Entry]) -> list[Entry]:
    entries[find(entries, "step-started", step="synthesis")]["data"]["inputs"]["reads/read-1.md"] = "00" * 32
    return entries


def read_of_other_digest(entries: list[Entry]) -> list[Entry]:
    entries[find(entries, "gate-answered", gate="read-1")]["data"]["sha256"] = "00" * 32
    return entries


def step_without_start(entries: list[Entry]) -> list[Entry]:
    del entries[find(entries, "step-started", step="curvature")]
    return entries


def sealed_twice(entries: list[Entry]) -> list[Entry]:
    sealed = entries[find(entries, "gate-answered", gate="read-0")]["data"]["sealed"]
    sealed.append(dict(sealed[0]))
    return entries


def work_after_the_end(entries: list[Entry]) -> list[Entry]:
    return [*entries, {"type": "declared", "time": entries[-1]["time"], "data": {"hypotheses": []}}]


def stage_left_out(entries: list[Entry]) -> list[Entry]:
    del entries[find(entries, "stage-done", stage="measure")]
    return entries


def path_out_of_the_folder(entries: list[Entry]) -> list[Entry]:
    entries[find(entries, "prepared")]["data"]["sealed"][0]["path"] = "../manifest.yaml"
    return entries


def event_without_its_data(entries: list[Entry]) -> list[Entry]:
    del entries[find(entries, "gate-opened", gate="read-0")]["data"]["stage"]
    return entries


def verdicts_before_read_1(entries: list[Entry]) -> list[Entry]:
    at = find(entries, "gate-opened", gate="read-1")
    judged = {"declared": 1, "verdicts": {"h1": "supported"}}
    return [
        *entries[:at],
        {"type": "hypotheses-judged", "time": entries[at]["time"], "data": judged},
        *entries[at:],
    ]


def other_hypotheses(entries: list[Entry]) -> list[Entry]:
    entries[find(entries, "declared")]["data"]["hypotheses"][0]["expect"] = "less"
    return entries


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (
            verdicts_before_read_1,
            "the gate read-1 ought to hold back the verdicts, and hypotheses were judged before it",
        ),
        (other_hypotheses, "the hypotheses are not those of the sealed manifest"),
        (read_after_the_step, "step-started stands before the answer to read-0"),
        (gate_after_the_step, "the gate read-0 ought to hold back the measurement, and a step had started"),
        (model_before_the_read, "target-fetched stands before the answer to read-0"),
        (read_1_before_the_measurement, "the gate read-1 is opened before the stage measure was done"),
        (other_seed, "the seed of step curvature follows neither from the manifest nor from an answer"),
        (
            other_input,
            "step synthesis is given reads/read-1.md, which is not sealed before it with that digest",
        ),
        (
            read_of_other_digest,
            "the text at reads/read-1.md is not sealed here with the digest that is named",
        ),
        (step_without_start, "step curvature ends without having started"),
        (sealed_twice, "reads/read-0.md is sealed a second time"),
        (work_after_the_end, "the event declared comes after the run was finished"),
        (stage_left_out, "the stage interpret is done, expected measure"),
        (path_out_of_the_folder, "'../manifest.yaml' is no safe path: '..' begins with a dot"),
        (event_without_its_data, "the event gate-opened has no stage, or one of another type"),
    ],
)
def test_a_story_that_the_host_would_not_write_is_found(
    edit: Callable[[list[Entry]], list[Entry]], what: str, governed: RunView
) -> None:
    forge(governed.root, edit)
    assert what in [finding.what for finding in verify(governed.root).findings]


def test_a_run_in_the_middle_verifies(write_run: Callable[..., RunView], tmp_path: Path) -> None:
    for until in ("read-0", "measured"):
        report = verify(write_run(tmp_path / until / "PYH-SML-20261122-001", until=until).root)
        assert (report.findings, report.unsealed) == ((), ())


def test_an_ungoverned_run_is_said_to_be_so(write_plain_run: Callable[..., RunView], tmp_path: Path) -> None:
    report = verify(write_plain_run(tmp_path / "PYH-SML-20261122-001").root)
    assert report.ok and any(note.startswith("the run is not governed") for note in report.notes)


def test_verification_imports_neither_torch_nor_a_plugin(governed: RunView) -> None:
    code = (
        "import sys; from pathlib import Path; from atlas.bundle.verify import verify;"
        f"assert verify(Path({str(governed.root)!r})).ok;"
        "heavy = ('torch', 'numpy', 'pluggy', 'atlas_');"
        "print([m for m in sys.modules if m.startswith(heavy)])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


CELLS = st.sampled_from(
    ["", "1", "-2", "1.5", "1e3", "x", "true", "false", '"a', '"a, b"', "1_0", " 1", "nan"]
)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4).map(",".join), max_size=4), st.sampled_from("\n\r"))
def test_the_quick_check_of_a_table_agrees_with_the_exact_one(lines: list[str], end: str) -> None:
    schema = TableSchema(
        "t",
        1,
        "A table.",
        (
            Column("a", "number", "A number.", required=True),
            Column("b", "boolean", "Yes or no."),
            Column("c", "integer", "A count."),
        ),
    )
    data = end.join(["a,b,c", *lines]).encode()
    try:
        read_csv(schema, data, where="t.csv")
        expected = True
    except (BadInput, csv.Error):
        expected = False
    assert fits(schema, data) == expected


# The environment


def test_the_environment_holds_no_index_no_url_no_user_and_no_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    canary = "atlas-canary-0123456789abcdef"
    info = tmp_path / "canary_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: canary-package\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps({"url": f"https://user:{canary}@host/x.whl"}))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "HTTPS_PROXY", "USER", "LOGNAME", "HOSTNAME"):
        monkeypatch.setenv(name, f"https://user:{canary}@host/simple")
    files = record_environment()
    together = b"".join(files.values())
    assert b"canary-package==1.0\n" in files["distributions.txt"]
    assert [
        word for word in (canary, str(Path.home()), str(tmp_path), "://") if word.encode() in together
    ] == []


# Grades


def test_a_repeated_run_is_graded_per_quantity(
    write_plain_run: Callable[..., RunView], tmp_path: Path
) -> None:
    def measured(*values: float) -> tuple[Quantity, ...]:
        first, second, low, trace, loss = values
        return (
            Quantity("lambda", first, 1e-6, "residual_bound", index=1),
            Quantity("lambda", second, 1e-6, "residual_bound", index=2),
            Quantity("lambda_min", low, 1e-6, "residual_bound"),
            Quantity("trace", trace, 5.0, "standard_error"),
            Quantity("loss", loss, 0.0, "exact", unit="nat"),
        )

    first = write_plain_run(
        tmp_path / "A-SML-20261122-001", quantities=measured(100.0, 1.0, -0.1, 500.0, 3.0)
    )
    again = write_plain_run(
        tmp_path / "A-SML-20261122-002", quantities=measured(100.0, 1.009, -0.2, 510.0, 3.1)
    )
    observed = {item.name: item.agreement for item in grade(first, again)}
    assert observed == {
        "lambda 1": Agreement.IDENTICAL,
        "lambda 2": Agreement.NUMERICALLY_EQUAL,  # 0.009 apart, on the scale of lambda 1: 1e-4 * 100
        "lambda_min": Agreement.DIFFERS,
        "trace": Agreement.STATISTICALLY_EQUAL,
        "loss": Agreement.DIFFERS,
    }


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"target.dtype": "float32", "target.device": "cpu"}, Agreement.DIFFERS),
        ({"target.dtype": "float32", "target.device": "cuda"}, Agreement.NUMERICALLY_EQUAL),
        ({"target.dtype": "bfloat16", "target.device": "cpu"}, Agreement.NUMERICALLY_EQUAL),
    ],
)
def test_the_tolerance_follows_dtype_and_device(
    facts: dict[str, str], expected: Agreement, write_plain_run: Callable[..., RunView], tmp_path: Path
) -> None:
    quantity = Quantity("lambda_max", 100.0, 1e-9, "residual_bound")
    first = write_plain_run(tmp_path / "A-SML-20261122-001", quantities=(quantity,))
    again = write_plain_run(
        tmp_path / "A-SML-20261122-002", quantities=(evolve(quantity, value=100.05),), facts=facts
    )
    assert [item.agreement for item in grade(first, again)] == [expected]


def test_a_quantity_that_was_not_measured_again_differs(
    write_plain_run: Callable[..., RunView], tmp_path: Path
) -> None:
    quantity = Quantity("trace", 100.0, 1.0, "standard_error")
    first = write_plain_run(tmp_path / "A-SML-20261122-001", quantities=(quantity,))
    again = write_plain_run(tmp_path / "A-SML-20261122-002", quantities=(evolve(quantity, slice="other"),))
    assert [str(item) for item in grade(first, again)] == [
        "differs: curvature trace = 100.0 ± 1, again not measured"
    ]


def test_tables_are_compared_byte_for_byte(write_plain_run: Callable[..., RunView], tmp_path: Path) -> None:
    first = write_plain_run(tmp_path / "A-SML-20261122-001")
    again = write_plain_run(tmp_path / "A-SML-20261122-002", spectrum=(114.11713, 41.53))
    assert identical_tables(first, again) == {
        "raw/curvature/quantities.csv": True,
        "raw/curvature/spectrum.csv": False,
    }


def test_a_record_without_its_model_says_that_it_is_not_here(governed: RunView, tmp_path: Path) -> None:
    with opened(pack(governed, tmp_path)) as view:
        observed = obstacles(view)
    assert "the model of target 'lm' is not here: models/smollm2-135m (a bundle holds no weights)" in observed


def test_a_record_collected_by_hand_has_nothing_to_repeat(governed: RunView) -> None:
    record = open_record(governed.root / "records/BSA-SML-20261122-001")
    assert obstacles(record) == ["it was collected by hand, so there is nothing to run"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"weights", []),
        (b"other", ["the file model.safetensors of target 'lm' is not the one that was measured"]),
        (None, ["the model of target 'lm' lacks the file model.safetensors"]),
    ],
)
def test_the_files_of_a_local_model_must_be_those_that_were_measured(
    content: bytes | None,
    expected: list[str],
    write_plain_run: Callable[..., RunView],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = {"target.sha256:model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    view = write_plain_run(tmp_path / "A-SML-20261122-001", facts=facts)
    folder = tmp_path / "models/smollm2-135m"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert [reason for reason in obstacles(view) if "target" in reason] == expected


# Speed


@pytest.mark.slow
def test_a_record_of_100_mb_verifies_in_five_seconds(
    write_plain_run: Callable[..., RunView], tmp_path: Path
) -> None:
    import time

    rows = tuple(1.0 / (n + 1) for n in range(200_000))
    view = write_plain_run(tmp_path / "A-SML-20261122-001", spectrum=rows)
    with (view.root / "logs/large.txt").open("wb") as stream:
        for _ in range(100):
            stream.write(os.urandom(1 << 20))
    bundle = pack(view, tmp_path)
    began = time.perf_counter()
    assert verify(bundle).ok
    assert time.perf_counter() - began < 5.0
