"""Packing a run as a BagIt bag (RFC 8493) in a zip whose bytes depend on the run alone.

The payload is the run folder as it is sealed, byte for byte, the folders of the records that it links,
the unsealed files that belong to it (logs, handouts, workbook, report), and four derived files that
describe the rest. The zip is stored, not compressed: compressors differ between builds, and the same
run shall give the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from attrs import frozen

from atlas import __version__
from atlas.bundle.cover import citation, data_package, readme
from atlas.bundle.crate import CRATE, Member, crate
from atlas.bundle.findings import Digest, digest_file, walk
from atlas.bundle.opening import BAGIT, PAYLOAD
from atlas.errors import BadInput, IntegrityBroken
from atlas.record import JOURNAL, RunView
from atlas.run.store import chunks, synced

__all__ = ["ALONGSIDE", "pack"]

ALONGSIDE = ("handouts", "logs", "report.html", "workbook")
"""What belongs to a run without being sealed."""

_ROLES = {
    "answer": "What a person answered",
    "attachment": "What an instrument kept",
    "environment": "Versions and machine",
    "evidence": "What an answer was taken from, as delivered",
    "facts": "Facts of a step that are no measurement",
    "manifest": "The manifest as written",
    "read": "What a person wrote",
    "resolved-manifest": "The manifest with all defaults",
    "schema": "Table Schema of the CSV beside it",
    "stimulus": "What was put before the model",
    "table": "A raw table",
}
_EPOCH = (1980, 1, 1, 0, 0, 0)


@frozen
class _Entry:
    """A payload file on its way into the bag: bytes, or the file to copy them from."""

    path: str
    content: bytes | Path
    description: str
    digest: Digest


def pack(view: RunView, destination: Path) -> Path:
    """Write `<RUN-ID>.zip` into a folder and return its path; packing again writes the same bytes.

    Raises:
        IntegrityBroken: A sealed file or a linked record is not what was sealed. Nothing is written.
        BadInput: `destination` is no folder.
    """
    if not destination.is_dir():
        raise BadInput("the bundle needs a folder to go into", where=str(destination))
    entries = {entry.path: entry for entry in _payload(view)}
    members = {
        path: Member(path, entry.digest.size, entry.digest.sha256, entry.description)
        for path, entry in entries.items()
    }
    for path, content, description in (
        ("README.md", readme(view), "What this is and how to check it"),
        ("CITATION.cff", citation(view), "How to cite it"),
        ("datapackage.json", data_package(view, members), "The raw tables with their schemas"),
    ):
        entries[path] = _of_bytes(path, content, description)
        members[path] = Member(path, len(content), entries[path].digest.sha256, description)
    entries[CRATE] = _of_bytes(CRATE, crate(view, members.values()), "The crate itself")
    bundle = destination / f"{view.run_id}.zip"
    temporary = bundle.with_suffix(".zip.tmp")
    try:
        _write(temporary, view.run_id, entries, _tags(view, entries))
        temporary.replace(bundle)
    finally:
        temporary.unlink(missing_ok=True)
    return bundle


def _payload(view: RunView) -> Iterator[_Entry]:
    journal = b"".join(line + b"\n" for line in _acknowledged(view))
    yield _of_bytes(JOURNAL, journal, "Every event of the run in its order, hash-chained")
    for artifact in view.artifacts.values():
        description = _ROLES.get(artifact.role, artifact.role)
        entry = _of_file(view.root, artifact.path, f"{description} (sealed)")
        if (entry.digest.size, entry.digest.sha256) != (artifact.size, artifact.sha256):
            raise IntegrityBroken("the file differs from what was sealed", where=artifact.path)
        yield entry
    linked = view.links()
    for event in view.of("record-linked"):
        record, folder = linked[event.data["record"]], event.data["folder"]
        if str(record.head) != event.data["head"]:
            raise IntegrityBroken("the linked record differs from what was linked", where=folder)
        for entry in _payload(record):
            yield _Entry(f"{folder}/{entry.path}", entry.content, entry.description, entry.digest)
    for path in _alongside(view.root):
        if path not in view.artifacts:
            yield _of_file(view.root, path, "Derived or kept beside the record; not sealed")


def _acknowledged(view: RunView) -> list[bytes]:
    """Return the journal's lines up to the view's head: no torn tail, nothing appended since."""
    lines = (view.root / JOURNAL).read_bytes().split(b"\n")[: view.head.length]
    if hashlib.sha256(lines[-1]).hexdigest() != view.head.sha256:
        raise IntegrityBroken("the journal changed while the run was being packed", where=JOURNAL)
    return lines


def _alongside(root: Path) -> Iterator[str]:
    for path, file in walk(root):
        top = path.partition("/")[0]
        hidden = any(part.startswith((".", "~")) for part in path.split("/"))
        if top in ALONGSIDE and not hidden and not file.is_symlink():
            yield path


def _of_bytes(path: str, content: bytes, description: str) -> _Entry:
    digest = Digest(len(content), hashlib.sha256(content).hexdigest(), hashlib.sha512(content).hexdigest())
    return _Entry(path, content, description, digest)


def _of_file(root: Path, path: str, description: str) -> _Entry:
    try:
        return _Entry(path, root / path, description, digest_file(root / path))
    except OSError as error:
        raise IntegrityBroken(f"the file cannot be read: {error.strerror}", where=path) from error


def _tags(view: RunView, entries: Mapping[str, _Entry]) -> dict[str, bytes]:
    """Return the bag's own files: declaration, information and manifests."""
    total = sum(entry.digest.size for entry in entries.values())
    information = {
        "Bag-Software-Agent": f"atlas-host {__version__}",
        "Bagging-Date": view.events[-1].time[:10],
        "External-Description": "The record of one run of Atlas; start with data/README.md",
        "External-Identifier": view.run_id,
        "Payload-Oxum": f"{total}.{len(entries)}",
    }
    tags = {
        BAGIT: b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": "".join(f"{key}: {value}\n" for key, value in information.items()).encode("utf-8"),
        "manifest-sha256.txt": _manifest((e.digest.sha256, f"{PAYLOAD}/{p}") for p, e in entries.items()),
        "manifest-sha512.txt": _manifest((e.digest.sha512, f"{PAYLOAD}/{p}") for p, e in entries.items()),
    }
    hashed = {name: _of_bytes(name, content, "").digest for name, content in tags.items()}
    return tags | {
        "tagmanifest-sha256.txt": _manifest((d.sha256, name) for name, d in hashed.items()),
        "tagmanifest-sha512.txt": _manifest((d.sha512, name) for name, d in hashed.items()),
    }


def _manifest(lines: Iterable[tuple[str, str]]) -> bytes:
    ordered = sorted(lines, key=lambda line: line[1])
    return "".join(f"{digest}  {path.replace('%', '%25')}\n" for digest, path in ordered).encode("utf-8")


def _write(path: Path, top: str, entries: Mapping[str, _Entry], tags: Mapping[str, bytes]) -> None:
    contents: dict[str, tuple[bytes | Path, int, str | None]] = {
        f"{top}/{PAYLOAD}/{name}": (entry.content, entry.digest.size, entry.digest.sha256)
        for name, entry in entries.items()
    }
    contents |= {f"{top}/{name}": (content, len(content), None) for name, content in tags.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bundle:
        for name in sorted(contents):
            content, size, sha256 = contents[name]
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            member.file_size = size
            digest = hashlib.sha256()
            with bundle.open(member, "w") as sink:
                for chunk in chunks(content):
                    digest.update(chunk)
                    sink.write(chunk)
            if sha256 not in (None, digest.hexdigest()):
                raise IntegrityBroken("the file changed while the run was being packed", where=name)
    synced(path)
