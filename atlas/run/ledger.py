"""The master registry: a line for each run of a runs folder, as CSV and as an SQLite index.

Both are made from the run folders and are never the truth: `refresh` reads what has changed, with
`anew` all of it. What a run is stands in its journal.
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

from atlas.errors import AtlasError
from atlas.record import JOURNAL, RunView, open_record
from atlas.run.identity import RUN_ID
from atlas.tables import Column, TableSchema, to_csv

__all__ = ["CSV", "INDEX", "RUNS", "folders", "refresh", "row_of", "written_rows"]

CSV = "registry.csv"
INDEX = "registry.sqlite"
_LOCK = ".registry-lock"

RUNS = TableSchema(
    name="run-registry",
    version=1,
    description="The runs of one folder, made from their journals.",
    columns=(
        Column("run_id", "string", "INSTRUMENT-LINEAGE-YYYYMMDD-SEQ, the folder's name.", required=True),
        Column("instruments", "string", "What its steps use."),
        Column("lineage", "string", "Lineage of the model."),
        Column("name", "string", "Name of the study."),
        Column("created", "string", "Time of its journal's first line."),
        Column("last", "string", "Time of the newest line."),
        Column("state", "string", "done, waiting, failed, running, abandoned or broken.", required=True),
        Column("tier", "string", "The tier that its journal ends in; empty before."),
        Column("policy", "string", "What governs it, with its version; `none` where nothing does."),
        Column("operator", "string", "The Technician."),
        Column("reads", "string", "Reads that are sealed: 0, 1, 2."),
        Column("records", "string", "Behavioural records that it hangs on."),
        Column("repeats", "string", "The run that it repeats."),
        Column("hypotheses", "string", "Verdicts on what it declared."),
        Column("head", "string", "Length and hash of its journal."),
        Column("fault", "string", "Why it cannot be read."),
    ),
    primary_key=("run_id",),
)

_COLUMNS = tuple(column.name for column in RUNS.columns)
_TABLE = f"""
CREATE TABLE IF NOT EXISTS runs ({", ".join(f'"{name}" TEXT' for name in _COLUMNS)},
    size INTEGER, mtime_ns INTEGER, PRIMARY KEY (run_id));
CREATE TABLE IF NOT EXISTS links (run_id TEXT, kind TEXT, other TEXT);
"""

Row = dict[str, Any]


def folders(runs: Path) -> list[Path]:
    """Return the run folders below a folder, by id."""
    return sorted(
        path for path in runs.glob("*") if RUN_ID.fullmatch(path.name) and (path / JOURNAL).is_file()
    )


def row_of(root: Path) -> Row:
    """Return a run's line; one whose journal cannot be read is `broken`, with the reason."""
    try:
        return _row(open_record(root))
    except AtlasError as error:
        return {name: "" for name in _COLUMNS} | {"run_id": root.name, "state": "broken", "fault": error.what}


def _row(view: RunView) -> Row:
    manifest = view.manifest
    governance = manifest.get("governance", "none")
    policy = governance if isinstance(governance, Mapping) else {}
    finished, judged = view.last("finished"), view.last("hypotheses-judged")
    parts = view.run_id.split("-")
    reads = [
        name.removeprefix("read-")
        for name, gate in view.gates.items()
        if name.startswith("read-") and gate.answered is not None
    ]
    return {
        "run_id": view.run_id,
        "instruments": " ".join(dict.fromkeys(step["use"] for step in manifest.get("steps", ()))) or parts[0],
        "lineage": str(manifest.get("lineage") or parts[1]),
        "name": str(manifest.get("name") or "record collected by hand"),
        "created": view.events[0].time,
        "last": view.events[-1].time,
        "state": view.state,
        "tier": str(finished.data["tier"]) if finished is not None else "",
        "policy": f"{policy['use']} {policy.get('version', '')}".strip() if policy else "none",
        "operator": str(policy.get("operator") or ""),
        "reads": " ".join(reads),
        "records": " ".join(event.data["record"] for event in view.of("record-linked")),
        "repeats": str(view.events[0].data.get("repeats") or ""),
        "hypotheses": " ".join(f"{k}={v}" for k, v in judged.data["verdicts"].items()) if judged else "",
        "head": str(view.head),
        "fault": "",
    }


def refresh(runs: Path, *, anew: bool = False) -> list[Row]:
    """Bring `registry.csv` and the index up to date and return the lines, by run id.

    A run is read again where its journal's size or time of change differs from what the index holds.

    Args:
        runs: The runs folder; nothing is written where it is missing.
        anew: Read every run again and forget the index.
    """
    if not runs.is_dir():
        return []
    with FileLock(runs / _LOCK, timeout=60):
        known = {} if anew else _indexed(runs / INDEX)
        rows, stamps = [], []
        for root in folders(runs):
            found = (root / JOURNAL).stat()
            stamp = (found.st_size, found.st_mtime_ns)
            earlier = known.get(root.name)
            rows.append(earlier[0] if earlier is not None and earlier[1] == stamp else row_of(root))
            stamps.append(stamp)
        _replace(runs / CSV, to_csv(RUNS, rows))
        _index(runs / INDEX, rows, stamps)
    return rows


def written_rows(runs: Path) -> list[Row] | None:
    """Return the lines of `registry.csv` as they stand, missing fields empty; None where there is none."""
    path = runs / CSV
    if not path.is_file():
        return None
    reader = csv.DictReader(io.StringIO(path.read_text("utf-8-sig", errors="replace"), newline=""))
    return [{name: line.get(name) or "" for name in _COLUMNS} for line in reader]


def _indexed(path: Path) -> dict[str, tuple[Row, tuple[int, int]]]:
    if not path.is_file():
        return {}
    try:
        with closing(sqlite3.connect(path)) as index:
            index.row_factory = sqlite3.Row
            found = [dict(line) for line in index.execute("SELECT * FROM runs")]
        return {
            line["run_id"]: ({name: line[name] for name in _COLUMNS}, (line["size"], line["mtime_ns"]))
            for line in found
        }
    except (sqlite3.DatabaseError, KeyError):
        return {}  # damaged, or of another version: it holds nothing that the run folders do not


def _index(path: Path, rows: list[Row], stamps: list[tuple[int, int]]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with closing(sqlite3.connect(temporary)) as index:
        index.execute("PRAGMA synchronous = OFF")  # it is made anew after a power cut
        index.executescript(_TABLE)
        marks = ", ".join("?" * (len(_COLUMNS) + 2))
        index.executemany(
            f"INSERT INTO runs VALUES ({marks})",
            [(*(row[name] for name in _COLUMNS), *stamp) for row, stamp in zip(rows, stamps, strict=True)],
        )
        index.executemany(
            "INSERT INTO links VALUES (?, ?, ?)", [link for row in rows for link in _links(row)]
        )
        index.commit()
    temporary.replace(path)


def _links(row: Row) -> Iterator[tuple[str, str, str]]:
    for kind in ("records", "repeats"):
        yield from ((row["run_id"], kind, other) for other in row[kind].split())


def _replace(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
