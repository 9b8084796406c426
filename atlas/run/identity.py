"""Run ids, `INSTRUMENT-LINEAGE-YYYYMMDD-SEQ`, and the folder that belongs to each."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

from atlas.errors import BadInput
from atlas.record import JOURNAL

__all__ = ["RUN_ID", "allocate", "find_run"]

RUN_ID = re.compile(r"[A-Z0-9]{2,12}-[A-Z]{2,4}-\d{8}-\d{3,}")


def allocate(runs: Path, code: str, lineage: str) -> Path:
    """Make the folder of a new run; its name is the run's id.

    The number is the next free one of the day (UTC). Making the folder is what claims the id, so two
    processes that start at the same time get two.

    Raises:
        BadInput: Code and lineage make no run id, or the folder cannot be written.
    """
    day = datetime.now(timezone.utc).strftime("%Y%m%d")
    prefix = f"{code.upper()}-{lineage.upper()}-{day}-"
    if not RUN_ID.fullmatch(f"{prefix}001"):
        raise BadInput(
            f"{code!r} and {lineage!r} make no run id, INSTRUMENT-LINEAGE-YYYYMMDD-SEQ",
            fix="a lineage has two to four letters, an instrument's code two to twelve letters and digits",
        )
    try:
        return _claim(runs, prefix)
    except OSError as error:
        raise BadInput(
            f"the runs folder cannot be written: {error.strerror or error}",
            where=str(runs),
            fix="make room and give permission there, or choose another one: atlas --runs FOLDER",
        ) from error


def _claim(runs: Path, prefix: str) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    taken = [
        int(path.name.removeprefix(prefix))
        for path in runs.glob(f"{prefix}*")
        if path.name.removeprefix(prefix).isdigit()
    ]
    number = max(taken, default=0) + 1
    while True:
        root = runs / f"{prefix}{number:03d}"
        try:
            root.mkdir()
        except FileExistsError:
            number += 1
            continue
        return root


def find_run(runs: Path, run: str) -> Path:
    """Return the folder of a run that is given by id or by path.

    Raises:
        BadInput: There is none; the message lists the newest runs.
    """
    for candidate in (runs / run, Path(run)):
        if (candidate / JOURNAL).is_file():
            return candidate.resolve()
    known = sorted(
        (path for path in runs.glob("*") if RUN_ID.fullmatch(path.name) and (path / JOURNAL).is_file()),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    newest = ", ".join(path.name for path in known[:5]) or "there are none yet"
    if Path(run).exists():
        what = f"{run!r} is no run: it is no folder that holds a {JOURNAL}"
    elif (runs / run).is_dir():
        what = f"the run {run!r} was never created: {runs / run} holds no {JOURNAL}"
    else:
        what = f"no run {run!r} in {runs}, and no file or folder of that name"
    raise BadInput(what, fix=f"name a run or its folder; newest: {newest}")
