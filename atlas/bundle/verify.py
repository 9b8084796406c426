"""Checking a run folder, a bag or a zip without models and plugins, and saying what that proves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from attrs import frozen

from atlas.bundle.columns import fits
from atlas.bundle.findings import Digest, Finding
from atlas.bundle.fixity import check_bag, digest_all
from atlas.bundle.opening import BAGIT, PAYLOAD, unpacked
from atlas.bundle.order import check_order, check_seeds, check_shapes
from atlas.bundle.statements import MANIFEST, NOT_PROVEN, proven_by, remarks, unsealed
from atlas.errors import AtlasError, BadInput, IntegrityBroken
from atlas.record import JOURNAL, Head, RunView, parse_journal, spelled
from atlas.run.paths import place
from atlas.tables import TableSchema, read_csv

__all__ = ["Finding", "VerifyReport", "verify"]

_DEEPEST = 8
"""Records that link records that link records: deeper than this is no honest bundle."""


@frozen
class VerifyReport:
    """What a check found.

    Attributes:
        subject: What was checked.
        run_id: The run's id, where its journal could be read.
        head: The journal's head, where its journal could be read.
        findings: What is not as it was sealed; empty if all is well.
        notes: What an auditor should know and what is no fault.
        unsealed: Files that nobody vouches for.
        proven: What the check shows, in plain words.
        not_proven: What no check of a record can show.
    """

    subject: str
    run_id: str | None = None
    head: Head | None = None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    unsealed: tuple[str, ...] = ()
    proven: tuple[str, ...] = ()
    not_proven: tuple[str, ...] = NOT_PROVEN

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def text(self) -> str:
        """Return the report in plain words, for a terminal."""
        verdict = "nothing is wrong" if self.ok else f"BROKEN, {len(self.findings)} finding(s)"
        lines = [f"{self.run_id or self.subject}: {verdict}", *(f"  {f}" for f in self.findings)]
        for title, items in (
            ("what this proves" if self.ok else "what still holds", self.proven),
            ("what it does not prove", self.not_proven),
            ("to know", self.notes),
            ("files that nobody vouches for", self.unsealed),
        ):
            if items:
                lines += [title, *(f"  - {item}" for item in items)]
        if self.head is not None:
            lines.append(f"head {self.head}")
        return "\n".join(lines)


def verify(path: Path, *, head: str | None = None) -> VerifyReport:
    """Check a run folder, bag folder or zip.

    Args:
        path: What to check.
        head: `LENGTH:HASH` as it was noted elsewhere.

    Raises:
        BadInput: There is nothing to check at `path`, or `head` is not written so.
    """
    expected = _parse_head(head) if head is not None else None
    try:
        with unpacked(path) as root:
            return _verify(root, path.name or str(path), expected)
    except IntegrityBroken as error:
        return VerifyReport(path.name, findings=(Finding(error.where or path.name, error.what),))


def _parse_head(text: str) -> Head:
    length, _, sha256 = text.strip().partition(":")
    if not length.isdigit() or len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef"):
        raise BadInput(f"{text!r} is no journal head", fix="write it as LENGTH:HASH, as it was printed")
    return Head(int(length), sha256.lower())


def _verify(root: Path, subject: str, expected: Head | None) -> VerifyReport:
    digests, findings = digest_all(root)
    is_bag = (root / BAGIT).is_file()
    if is_bag:
        findings += check_bag(root, digests)
        prefix = f"{PAYLOAD}/"
        digests = {p.removeprefix(prefix): d for p, d in digests.items() if p.startswith(prefix)}
        root = root / PAYLOAD
    try:
        view, notes = _load(root)
    except AtlasError as error:
        return VerifyReport(subject, findings=(*findings, Finding(error.where or JOURNAL, error.what)))
    found = list(_check_record(view, digests, depth=0))
    proven = [] if found else list(proven_by(view))
    findings += found
    if is_bag and not findings:
        proven.insert(0, "the bundle arrived as it was packed: every file fits the bag's manifests")
    wrong = _against(view, expected)
    if wrong is not None:
        findings.append(Finding(JOURNAL, wrong))
    elif expected is not None:
        since = view.head.length - expected.length
        grown = f", and {since} line(s) were added since" if since else ""
        proven.append(
            f"head: line {expected.length} of the journal is the one that you hold the hash of{grown}"
        )
    if expected is None:
        notes.append(
            "no head was given: lines dropped from the journal's end, or a record rewritten as a whole, "
            "can be seen only against a head that was kept elsewhere (--head LENGTH:HASH)"
        )
    return VerifyReport(
        subject,
        view.run_id,
        view.head,
        tuple(sorted(set(findings), key=lambda f: (f.file, f.what))),
        (*notes, *remarks(view)),
        tuple(unsealed(view, digests)),
        tuple(proven),
    )


def _load(root: Path) -> tuple[RunView, list[str]]:
    """Return the record at `root` as far as its journal's chain holds."""
    try:
        data = (root / JOURNAL).read_bytes()
    except OSError as error:
        raise IntegrityBroken("the journal cannot be read", where=JOURNAL) from error
    events, head, torn = parse_journal(data, where=JOURNAL)
    if not events:
        raise IntegrityBroken("the journal is empty", where=JOURNAL)
    view = RunView(root, events, head)
    wrong = next(check_shapes(view), None)
    if wrong is not None:
        raise IntegrityBroken(wrong.what, where=wrong.file)
    notes = (
        [f"{len(torn)} bytes of an unfinished line end the journal; they count for nothing"] if torn else []
    )
    return view, notes


def _check_record(view: RunView, digests: Mapping[str, Digest], *, depth: int) -> Iterator[Finding]:
    yield from check_order(view)
    broken = set()
    for finding in _check_files(view, digests):
        broken.add(finding.file)
        yield finding
    if MANIFEST in view.artifacts and MANIFEST not in broken:
        yield from _check_manifest(view)
    yield from _check_tables(view, broken)
    for event in view.of("record-linked"):
        yield from _check_link(view, event.data, digests, depth=depth)


def _check_files(view: RunView, digests: Mapping[str, Digest]) -> Iterator[Finding]:
    for artifact in view.artifacts.values():
        digest = digests.get(artifact.path)
        if digest is None:
            yield Finding(artifact.path, "the journal sealed this file, and it is not here")
        elif digest.size != artifact.size:
            yield Finding(
                artifact.path,
                f"the file differs from what was sealed: {digest.size} bytes, sealed were {artifact.size}",
            )
        elif digest.sha256 != artifact.sha256:
            yield Finding(artifact.path, "the file differs from what was sealed: its sha256 is another")


def _check_manifest(view: RunView) -> Iterator[Finding]:
    try:
        readable = isinstance(view.manifest, Mapping)
    except (yaml.YAMLError, ValueError, RecursionError):
        readable = False
    if not readable:
        yield Finding(MANIFEST, "not a manifest: expected one YAML mapping")
        return
    yield from (item for item in check_seeds(view) if isinstance(item, Finding))
    declared = view.last("declared")
    if declared is not None and declared.data["hypotheses"] != spelled(view.manifest.get("declare") or []):
        yield Finding(f"{JOURNAL}:{declared.seq + 1}", "the hypotheses are not those of the sealed manifest")


def _check_tables(view: RunView, broken: set[str]) -> Iterator[Finding]:
    for path, artifact in view.artifacts.items():
        schema = path.removesuffix(".csv") + ".schema.json"
        if not path.endswith(".csv") or {path, schema} & broken:
            continue
        if schema not in view.artifacts:
            if artifact.role == "table":
                yield Finding(path, "the table has no sealed schema beside it")
            continue
        try:
            described = TableSchema.from_descriptor(json.loads(view.read(schema)))
            data = view.read(path)
            if not fits(described, data):
                read_csv(described, data, where=path)
        except BadInput as error:
            yield Finding(error.where or path, f"the table does not fit its schema: {error.what}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            yield Finding(schema, "not a Table Schema")


def _check_link(
    view: RunView, data: Mapping[str, str], digests: Mapping[str, Digest], *, depth: int
) -> Iterator[Finding]:
    folder = data["folder"]
    prefix = f"{folder}/"
    if depth >= _DEEPEST:
        yield Finding(folder, "records are linked within records too deeply")
        return
    try:
        record, _ = _load(place(view.root, folder))
    except AtlasError as error:
        yield Finding(f"{prefix}{error.where or ''}", f"the linked record is broken: {error.what}")
        return
    if str(record.head) != data["head"] or record.run_id != data["record"]:
        yield Finding(
            f"{prefix}{JOURNAL}",
            f"not the record that was linked: it is {record.run_id} at {record.head}, "
            f"linked was {data['record']} at {data['head']}",
        )
    inner = {p.removeprefix(prefix): d for p, d in digests.items() if p.startswith(prefix)}
    for finding in _check_record(record, inner, depth=depth + 1):
        yield Finding(f"{prefix}{finding.file}", finding.what)


def _against(view: RunView, expected: Head | None) -> str | None:
    """Return how the journal contradicts a head that was kept elsewhere, or None."""
    if expected is None or expected == view.head:
        return None
    if expected.length > view.head.length:
        missing = expected.length - view.head.length
        return f"{missing} line(s) are missing at the end: the head you gave has {expected.length}"
    if expected.length == 0 or view.head_after(view.events[expected.length - 1]) != expected:
        return f"the record was rewritten: its line {expected.length} is not the one that the head names"
    return None
