"""Run ids, `INSTRUMENT-LINEAGE-YYYYMMDD-SEQ`, and the folder that belongs to each."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

from atlas.errors import BadInput

__all__ = ["RUN_ID", "allocate", "find_run"]

RUN_ID = re.compile(r"[A-Z0-9]{2,12}-[A-Z]{2,4}-\d{8}-\d{3,}")


def allocate(runs: Path, code: str, lineage: str) -> Path:
    """Make the folder of a new run; its name is the run's id.

    The number is the next free one of the day (UTC). Making the folder is what claims the id, so two
    processes that start at the same time get two.
    """
    day = datetime.now(timezone.utc).strftime("%Y%m%d")
    prefix = f"{code.upper()}-{lineage.upper()}-{day}-"
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
        if (candidate / "journal.jsonl").is_file():
            return candidate.resolve()
    known = sorted(
        (path for path in runs.glob("*") if RUN_ID.fullmatch(path.name)),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    newest = ", ".join(path.name for path in known[:5]) or "there are none yet"
    raise BadInput(f"no run {run!r} in {runs}", fix=f"name a run or its folder; newest: {newest}")
