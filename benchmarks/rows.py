"""A result row as `docs/benchmarks.md` prints it, and the files that hold them."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def result_row(
    identifier: str,
    what: str,
    value: float,
    *,
    unit: str,
    target: str,
    met: bool | None,
    packages: Iterable[str],
    baseline: float | None = None,
    baseline_version: str | None = None,
    sd: float | None = None,
    n: int = 1,
    threads: str = "1 thread",
    machine: str | None = None,
) -> dict[str, Any]:
    """Return one measured line.

    Args:
        identifier: The subject and the line, `curvature.products_top5`.
        what: What was measured, in a sentence, with what the reader needs to judge it.
        value: What came out.
        unit: Its unit; "1" for a pure number.
        target: What was to be reached.
        met: Whether it was; None where nothing was to be.
        packages: Distributions whose versions belong to the figure; those not installed are left out.
        baseline: The other side's figure from the same run.
        baseline_version: What the other side is.
        sd: Scatter of the value over its repetitions.
        n: Repetitions.
        threads: How much of the machine was used.
        machine: The machine in words; None for this one with `threads`.
    """
    return {
        "id": identifier,
        "what": what,
        "value": value,
        "sd": sd,
        "n": n,
        "unit": unit,
        "baseline": baseline,
        "baseline_version": baseline_version,
        "target": target,
        "met": met,
        "machine": machine or f"{platform.machine()}, {threads}, {platform.system()}",
        "versions": versions(packages),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those distributions that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows, those of the same id replaced, the others kept."""
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else []
    fresh = {row["id"]: row for row in rows}
    merged = [fresh.pop(row["id"], row) for row in kept] + list(fresh.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merged, indent=2) + "\n", "utf-8")


def line_by_line(
    make: Callable[..., dict[str, Any]], cases: Iterable[Mapping[str, Any]], lines: Path | None
) -> list[dict[str, Any]]:
    """Return what was made of every case, in the order in which it was made; print each as it comes.

    Args:
        make: Takes a case as named arguments; what it returns follows them in the line.
        cases: The cases.
        lines: A file of lines made earlier, which are not made again, and to which those made now are
            added, so that an interrupted benchmark goes on; None for none.
    """
    kept = lines.read_text("utf-8") if lines is not None and lines.is_file() else ""
    found = [json.loads(line) for line in kept.splitlines()]
    for case in cases:
        if any(case.items() <= line.items() for line in found):
            continue
        found.append({**case, **make(**case)})
        line = json.dumps(found[-1])
        print(line, flush=True)
        if lines is not None:
            with lines.open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")
    return found


def ablation_rows(
    found: Sequence[Mapping[str, Any]],
    measures: Mapping[str, tuple[str, str]],
    *,
    plain: str,
    identifier: str,
    about: str,
    without: str,
    packages: Iterable[str],
) -> list[dict[str, Any]]:
    """Return a row for each kind of training but the plain one, and each measure.

    Args:
        found: Lines of trainings, with their `kind` and their measures.
        measures: By key, what it is and its unit.
        plain: The kind that the others are compared with.
        identifier: Beginning of a row's id, which kind and key end.
        about: What is said before the kind, in the row's words.
        without: What the baseline is.
        packages: As of `result_row`.
    """
    kinds = [kind for kind in dict.fromkeys(line["kind"] for line in found) if kind != plain]
    made = []
    for kind in kinds:
        for key, (what, unit) in measures.items():
            values, others = (
                [float(line[key]) for line in found if line["kind"] == one] for one in (kind, plain)
            )
            made.append(
                result_row(
                    "_".join((identifier, kind, key)).replace(" ", "_"),
                    f"{about} {kind}: {what}",
                    statistics.mean(values),
                    sd=statistics.stdev(values),
                    n=len(values),
                    unit=unit,
                    baseline=statistics.mean(others),
                    baseline_version=f"{without}, sd {statistics.stdev(others):.2g}",
                    target="none; an ablation",
                    met=None,
                    packages=packages,
                )
            )
    return made


def ablate(
    train: Callable[..., dict[str, Any]],
    kinds: Iterable[str],
    seeds: Sequence[int],
    steps: tuple[int, int],
    table: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    *,
    description: str | None,
    out: Path,
) -> None:
    """Be the command line of an ablation: train every kind with every seed and write the rows.

    Args:
        train: Takes `kind`, `seed` and `steps`, and returns a line.
        kinds: What is trained.
        seeds: Of which `--quick` takes the first.
        steps: Of a training, and of a quick one.
        table: Makes rows of lines.
        description: Of the benchmark.
        out: Where the rows go, unless `--out` says otherwise.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole, quick = steps
    parser.add_argument("--quick", action="store_true", help=f"{quick} steps, one seed; nothing is written")
    parser.add_argument("--lines", type=Path, help="results so far, a line each, which are not made again")
    parser.add_argument("--out", type=Path, default=out)
    chosen = parser.parse_args()
    taken = seeds[:1] if chosen.quick else seeds
    cases = [
        {"kind": kind, "seed": seed, "steps": quick if chosen.quick else whole}
        for seed in taken
        for kind in kinds
    ]
    found = line_by_line(train, cases, chosen.lines)
    if not chosen.quick:
        write(table(found), chosen.out)
