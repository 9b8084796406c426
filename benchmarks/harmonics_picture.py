"""Draws a run's sweeps for its page: `python benchmarks/harmonics_picture.py RUN_FOLDER docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from atlas_lossyscape.harmonics.comparison import ALLOWED
from atlas_lossyscape.harmonics.picture import draw_deviations, draw_roots, draw_sweeps

from atlas.record import open_record


def main() -> int:
    """Write harmonics.svg, harmonics-roots.svg and harmonics-deviations.svg of the run's first step."""
    view, folder = open_record(Path(sys.argv[1])), Path(sys.argv[2])
    entry = next(step for step in view.manifest["steps"] if step["use"] == "harmonics-experiment")
    tables, params = view.tables(entry["id"]), entry["params"]
    rows = tables["harmonics-comparison"]
    driven = next(row for row in rows if row["leg"] == "free" and row["index"] == params["mode"])
    (folder / "harmonics.svg").write_bytes(draw_sweeps(tables["harmonics-sweep"], driven["eigenvalue"]))
    (folder / "harmonics-roots.svg").write_bytes(draw_roots(rows, params["momentum"]))
    (folder / "harmonics-deviations.svg").write_bytes(draw_deviations(rows, allowed=ALLOWED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
