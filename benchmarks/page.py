"""Writes docs/benchmarks.md from the result files: `python benchmarks/page.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

Generated from `benchmarks/results/` by `python benchmarks/page.py`; do not edit. Each row was measured with
both sides on one machine in one go, by the script that its file is named after. Absolute times mean little
elsewhere; ratios are what to compare. A missed target stays in the table.
"""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _ratio(row: Mapping[str, Any]) -> str:
    return "" if not row["baseline"] else f"{row['value'] / row['baseline']:.3g}"


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "**missed**", None: "no target"}[met]


def _table(path: Path) -> str:
    rows = json.loads(path.read_text("utf-8"))
    lines = [
        f"## {path.stem}",
        "",
        "| row | what | ours | baseline | ratio | unit | target | |",
        "| --- | --- | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for row in rows:
        spread = f" ± {_number(row['sd'])} (n={row['n']})" if row["sd"] is not None else ""
        cells = (
            f"`{row['id']}`",
            row["what"],
            _number(row["value"]) + spread,
            f"{_number(row['baseline'])} ({row['baseline_version']})",
            _ratio(row),
            row["unit"],
            row["target"],
            _verdict(row["met"]),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    machines = sorted({f"{row['machine']}, {row['date']}" for row in rows})
    versions = sorted({f"{name} {version}" for row in rows for name, version in row["versions"].items()})
    lines += ["", f"Measured on {'; '.join(machines)}, with {', '.join(versions)}."]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page; `-quick` results are left out, they only try the scripts."""
    files = [path for path in sorted(RESULTS.glob("*.json")) if not path.stem.endswith("-quick")]
    return "\n".join([HEAD, *(_table(path) for path in files)])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
