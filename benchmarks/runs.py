"""How long the master registry takes with many runs.

    python benchmarks/runs.py [--quick]

Writes run folders with the journal and store of a real run (prepared, one step of six quantities,
finished), then times `atlas runs rebuild`, which reads every journal, and the refresh after one run changed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import yaml
from rows import RESULTS, result_row, write

from atlas.quantities import Quantity
from atlas.record import JOURNAL, canonical_json
from atlas.run.journal import Journal
from atlas.run.ledger import refresh
from atlas.run.store import Deposit, Store
from atlas.tables import QUANTITIES, to_csv

RUNS = 1000
REBUILD_S, REFRESH_S = 10.0, 0.5
"""What a person waits for, and what every change of a run may cost."""


def main() -> int:
    """Measure both rows and write them beside what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50 runs in place of 1,000")
    count = 50 if parser.parse_args().quick else RUNS
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        for number in range(count):
            write_run(runs / f"PYH-SML-20261123-{number + 1:04d}")
        rebuild = timed(runs, anew=True)
        with (runs / "PYH-SML-20261123-0001" / JOURNAL).open("ab") as journal:
            journal.write(b"torn")
        again = timed(runs, anew=False)
    rows = [
        row(
            "runs.rebuild",
            f"registry and index of {count} runs made from their journals alone",
            rebuild,
            REBUILD_S,
        ),
        row(
            "runs.refresh",
            f"registry and index of {count} runs brought up to date after one changed",
            again,
            REFRESH_S,
        ),
    ]
    write(rows, RESULTS / ("runs-quick.json" if count != RUNS else "runs.json"))
    for one in rows:
        print(f"{one['id']}: {one['value']:.3g} s")
    return 0


def row(identifier: str, what: str, seconds: float, limit: float) -> dict[str, object]:
    """Return a row whose target is a limit of seconds."""
    return result_row(
        identifier,
        what,
        seconds,
        unit="s",
        target=f"<= {limit:g}",
        met=seconds <= limit,
        packages=["atlas-host"],
    )


def timed(runs: Path, *, anew: bool) -> float:
    """Return the seconds of one refresh."""
    begin = time.perf_counter()
    refresh(runs, anew=anew)
    return time.perf_counter() - begin


def write_run(root: Path) -> None:
    """Write a finished run of one step."""
    manifest = {
        "atlas": 1,
        "name": "many runs",
        "lineage": "SML",
        "seed": 7,
        "governance": "none",
        "stimulus": {"use": "bsa", "version": "0.2", "each": "pair"},
        "targets": {"lm": {"use": "hf", "path": "models/smollm2-135m"}},
        "steps": [{"id": "curvature", "use": "pyhessian", "target": "lm", "params": {"top_k": 3}}],
    }
    measured = [Quantity("lambda_max", 40.0 + n, 0.1, "residual_bound", slice=f"bsa-{n}") for n in range(6)]
    with Journal.create(root) as journal:
        store = Store.open(journal)
        journal.append("created", {"run_id": root.name, "atlas": "0.1.0", "governed": False})
        text = yaml.safe_dump(manifest, sort_keys=False).encode()
        store.seal_together("prepared", {}, [Deposit("manifest.resolved.yaml", text, "resolved-manifest")])
        journal.append("stage-done", {"stage": "prepare"})
        start = {
            "step": "curvature",
            "attempt": 1,
            "seed": "1",
            "inputs": {},
            "isolation": "process",
            "threads": 1,
        }
        journal.append("step-started", start)
        store.seal_together(
            "step-finished",
            {"step": "curvature", "attempt": 1, "seconds": "1.0"},
            [
                Deposit(
                    "raw/curvature/quantities.csv",
                    to_csv(QUANTITIES, (q.as_record() for q in measured)),
                    "table",
                ),
                Deposit(
                    "raw/curvature/quantities.schema.json", canonical_json(QUANTITIES.descriptor()), "schema"
                ),
            ],
        )
        for stage in ("measure", "interpret", "close"):
            journal.append("stage-done", {"stage": stage})
        journal.append("finished", {"tier": "C", "conditions": []})


if __name__ == "__main__":
    sys.exit(main())
