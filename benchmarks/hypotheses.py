"""How often a declared hypothesis is called supported: where there is no effect, and where there is one.

    python benchmarks/hypotheses.py [--row ID] [--quick]

Each row simulates experiments of the shape that the BSA pairs give (12 slices against 9, or 12 pairs), judges
them exactly as a run does, and counts. Baselines: the nominal level; for power, Student's t-test on the same
samples (Welch's where spreads differ), by scipy.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import math
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from atlas.inference import Sample, Test, invert
from atlas.verdicts import Trial, judge_all

RESULTS = Path(__file__).resolve().parent / "results"
ALPHA = 0.05
SIZES = (12, 9)
SIMULATIONS = 1000
SEED = 20261123

Draw = Callable[[np.random.Generator, float], Sample]


def main() -> int:
    """Measure the rows that were asked for and write them beside what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--row", help="rows whose id begins so, such as hypotheses.false_positives")
    parser.add_argument("--quick", action="store_true", help="50 simulations in place of 1,000")
    arguments = parser.parse_args()
    count = 50 if arguments.quick else SIMULATIONS
    chosen = [name for name in ROWS if arguments.row is None or name.startswith(arguments.row)]
    if not chosen:
        parser.error(f"no row {arguments.row!r}; rows are {', '.join(ROWS)}")
    for name in chosen:
        row = ROWS[name](name, count)
        write([row], RESULTS / ("hypotheses-quick.json" if arguments.quick else "hypotheses.json"))
        print(f"{row['id']}: {row['value']:.4g}, against {row['baseline']:.4g}", flush=True)
    return 0


def normal(generator: np.random.Generator, shift: float) -> Sample:
    """Draw 12 and 9 normal values of spread 1."""
    return Sample(generator.normal(shift, 1, SIZES[0]), generator.normal(0, 1, SIZES[1]))


def skewed(generator: np.random.Generator, shift: float) -> Sample:
    """Draw 12 and 9 log-normal values, as curvatures are spread over pairs of claims."""
    return Sample(generator.lognormal(0, 1, SIZES[0]) + shift, generator.lognormal(0, 1, SIZES[1]))


def unequal(generator: np.random.Generator, shift: float) -> Sample:
    """Draw 12 normal values of spread 1 and 9 of spread 3: not exchangeable, the means are equal."""
    return Sample(generator.normal(shift, 1, SIZES[0]), generator.normal(0, 3, SIZES[1]))


def pairs(generator: np.random.Generator, shift: float) -> Sample:
    """Draw 12 pairs whose members share a part of spread 2 and differ by normal values of spread 1."""
    common = generator.normal(0, 2, SIZES[0])
    each = generator.normal(0, math.sqrt(0.5), (2, SIZES[0]))
    return Sample(common + each[0] + shift, common + each[1], paired=True)


def supported(draw: Draw, test: Test, shift: float, count: int) -> tuple[int, int]:
    """Return how often `greater` was supported, and how often a t-test on the same values rejected."""
    ours = theirs = 0
    for number in range(count):
        sample = draw(np.random.default_rng((SEED, number, round(100 * shift))), shift)
        test_seed = np.random.default_rng((SEED, number, round(100 * shift), 1))
        inversion = invert(sample, test, test_seed)
        (judged,) = judge_all([Trial(sample, "greater", ALPHA, 0.0, test)], [inversion])
        ours += judged.verdict == "supported"
        if sample.paired:
            found = stats.ttest_rel(sample.group, sample.against, alternative="greater")
        else:
            equal = draw is not unequal
            found = stats.ttest_ind(sample.group, sample.against, equal_var=equal, alternative="greater")
        theirs += found.pvalue <= ALPHA
    return ours, theirs


def false_positives(draw: Draw, test: Test, what: str, aim: bool, name: str, count: int) -> dict[str, Any]:
    """Share of null simulations in which `greater` was supported."""
    ours, theirs = supported(draw, test, 0.0, count)
    return _row(
        name,
        f"{what}, {test}: share of {count} null simulations supported at alpha {ALPHA}; "
        f"a t-test rejected {theirs / count:.3f}",
        ours / count,
        ALPHA,
        "nominal",
        count,
        target="0.03 to 0.07" if aim else "none: the test's assumption does not hold",
        met=0.03 <= ours / count <= 0.07 if aim else None,
    )


def family(name: str, count: int) -> dict[str, Any]:
    """Share of null simulations of three hypotheses in which any was supported."""
    hits = 0
    for number in range(count):
        samples = [normal(np.random.default_rng((SEED, number, 7, n)), 0.0) for n in range(3)]
        tests = [
            invert(sample, "permutation", np.random.default_rng((SEED, number, 8, n)))
            for n, sample in enumerate(samples)
        ]
        judged = judge_all([Trial(sample, "greater", ALPHA) for sample in samples], tests)
        hits += any(one.verdict == "supported" for one in judged)
    return _row(
        name,
        f"three declared hypotheses, permutation, Holm: share of {count} null simulations with any supported",
        hits / count,
        ALPHA,
        "nominal",
        count,
        target="0.03 to 0.07",
        met=0.03 <= hits / count <= 0.07,
    )


def power(draw: Draw, test: Test, what: str, shift: float, name: str, count: int) -> dict[str, Any]:
    """Share of simulations with an effect in which `greater` was supported."""
    ours, theirs = supported(draw, test, shift, count)
    return _row(
        name,
        f"{what}, {test}: share of {count} simulations supported where the means differ by {shift:g} spreads",
        ours / count,
        theirs / count,
        f"t-test, scipy {importlib.metadata.version('scipy')}",
        count,
        target="reported",
        met=None,
    )


def _row(
    identifier: str,
    what: str,
    value: float,
    baseline: float,
    baseline_version: str,
    count: int,
    *,
    target: str,
    met: bool | None,
) -> dict[str, Any]:
    return {
        "id": identifier,
        "what": what,
        "value": value,
        "sd": math.sqrt(value * (1 - value) / count),
        "n": count,
        "unit": "1",
        "baseline": baseline,
        "baseline_version": baseline_version,
        "target": target,
        "met": met,
        "machine": f"{platform.machine()}, 1 thread, {platform.system()}",
        "versions": {name: importlib.metadata.version(name) for name in ("atlas-host", "numpy", "scipy")},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _rows() -> dict[str, Callable[[str, int], dict[str, Any]]]:
    fpr, rows = "hypotheses.false_positives", {}
    between, within = "12 slices against 9", "12 pairs"
    for key, draw, test, what, aim in (
        ("between.permutation", normal, "permutation", f"{between}, normal", True),
        ("between.permutation.skewed", skewed, "permutation", f"{between}, log-normal", True),
        ("between.permutation.unequal", unequal, "permutation", f"{between}, spreads 1 and 3", False),
        ("between.bootstrap", normal, "bootstrap", f"{between}, normal", True),
        ("between.bootstrap.skewed", skewed, "bootstrap", f"{between}, log-normal", True),
        ("between.bootstrap.unequal", unequal, "bootstrap", f"{between}, spreads 1 and 3", True),
        ("pairs.permutation", pairs, "permutation", within, True),
        ("pairs.bootstrap", pairs, "bootstrap", within, True),
    ):
        rows[f"{fpr}.{key}"] = functools.partial(false_positives, draw, test, what, aim)
    rows["hypotheses.false_positives.holm3"] = family
    for shift in (0.5, 1.0, 1.5):
        key = f"hypotheses.power.between.{shift:g}"
        rows[key] = functools.partial(power, normal, "permutation", f"{between}, normal", shift)
        key = f"hypotheses.power.pairs.{shift:g}"
        rows[key] = functools.partial(power, pairs, "permutation", within, shift)
    return rows


ROWS = _rows()


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows, those of the same id replaced, the others kept."""
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else []
    fresh = {row["id"]: row for row in rows}
    merged = [fresh.pop(row["id"], row) for row in kept] + list(fresh.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merged, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
