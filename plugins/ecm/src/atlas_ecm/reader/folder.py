"""A folder of sessions: which files are read how, and the evidence of every one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from atlas.errors import BadInput
from atlas_ecm.reader.exports import read_export
from atlas_ecm.reader.lines import Run, TextFile, is_text
from atlas_ecm.reader.rows import read_csv_file, read_json_lines
from atlas_ecm.reader.sessions import Session
from atlas_ecm.reader.transcripts import read_transcript

__all__ = ["READERS", "Evidence", "Folder"]

READERS: Mapping[str, Callable[[TextFile], Iterator[Session]]] = {
    ".txt": read_transcript,
    ".md": read_transcript,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv_file,
    ".json": read_export,
}
"""How a file is read, by the end of its name."""


@frozen
class Evidence:
    """What is known of one file, whether or not it was read; see the table `ecm-files`."""

    file: str
    status: str
    sessions: int
    size: int
    sha256: str
    runs: tuple[Run, ...] = field(default=(), repr=False)

    def as_record(self) -> dict[str, Any]:
        """Return the row of the `ecm-files` table."""
        row: dict[str, Any] = {
            "file": self.file,
            "status": self.status,
            "sessions": self.sessions,
            "bytes": self.size,
            "sha256": self.sha256,
        }
        if self.status == "not text":
            row |= {"not_text_bytes": self.size, "not_text_runs": 1, "not_text_sha256": self.sha256}
        elif self.status == "read":
            found = b"".join(run.data for run in self.runs)
            row |= {"not_text_bytes": len(found), "not_text_runs": len(self.runs)}
            if self.runs:
                row |= {
                    "not_text_sha256": hashlib.sha256(found).hexdigest(),
                    "not_text_line": self.runs[0].line,
                }
        return row

    def json_lines(self) -> Iterator[bytes]:
        """Yield each run of bytes that is no text, in hexadecimal, as a JSON line."""
        for run in self.runs:
            entry = {"file": self.file, "line": run.line, "bytes": run.data.hex()}
            yield json.dumps(entry).encode("ascii") + b"\n"


@define
class Folder:
    """A folder, or one file, that is read once.

    Attributes:
        path: Where it lies.
        evidence: One entry a file, complete when the last session has been read.
    """

    path: Path
    evidence: list[Evidence] = field(factory=list)

    def sessions(self) -> Iterator[Session]:
        """Yield the sessions, by file in the order of their names, one at a time.

        Raises:
            BadInput: A file is faulty, two sessions have one name, or there is no session at all.
        """
        places: dict[str, str] = {}
        for path, name in self._files():
            reader = READERS.get(path.suffix.lower())
            if reader is None or not is_text(path):
                self.evidence.append(_unread(path, name, "not read" if reader is None else "not text"))
                continue
            file, count = TextFile(path, name), 0
            for session in reader(file):
                if session.id in places:
                    raise BadInput(
                        f"the session {session.id!r} stands in {places[session.id]} already",
                        where=session.place,
                    )
                places[session.id] = session.place
                count += 1
                yield session
            self.evidence.append(Evidence(name, "read", count, file.size, file.sha256, tuple(file.runs)))
        if not places:
            raise BadInput(
                f"no session in {len(self.evidence)} files",
                where=self.path.name,
                fix=f"sessions are read from files that end in {', '.join(READERS)}",
            )

    def _files(self) -> list[tuple[Path, str]]:
        """Return files and their names below the folder, hidden ones too, in the order of the names."""
        if self.path.is_file():
            return [(self.path, self.path.name)]
        found = ((path, path.relative_to(self.path).as_posix()) for path in self.path.rglob("*"))
        return sorted(((path, name) for path, name in found if path.is_file()), key=lambda pair: pair[1])


def _unread(path: Path, name: str, status: str) -> Evidence:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
            size += len(block)
    return Evidence(name, status, 0, size, digest.hexdigest())
