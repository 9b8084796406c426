"""Observed against predicted frequencies and gains of training: `python benchmarks/harmonics.py [--row ID]`.

The quadratic's second opinion is the exact linear recursion's eigenvalues, by numpy. The network's is the
literal condition that a drive resonates where its frequency equals the eigenvalue, or the frequency that
decay alone would give. All draws come from one seed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from atlas_lossyscape.harmonics import experiment
from atlas_lossyscape.harmonics.gain import resonant_frequency
from atlas_lossyscape.harmonics.modes import Optimizer, mode
from atlas_lossyscape.harmonics.network import eigenpairs
from atlas_lossyscape.harmonics.signals import matrix_pencil

from atlas.randomness import RandomStreams

RESULTS = Path(__file__).resolve().parent / "results"
SEED = 7
BETA = 0.9
DECAY = 0.01


def main() -> int:
    """Measure the rows that were asked for and write them beside what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--row", help="rows whose id begins so")
    arguments = parser.parse_args()
    rows = [row for row in (*quadratic(), *network()) if row["id"].startswith(arguments.row or "")]
    if not rows:
        parser.error(f"no row {arguments.row!r}")
    write(rows, RESULTS / "harmonics.json")
    for row in rows:
        print(f"{row['id']}: {row['value']:.4g}, against {row['baseline']:.4g}", flush=True)
    return 0


def quadratic() -> list[dict[str, Any]]:
    """Seven underdamped modes of a rotated quadratic under heavy ball."""
    generator = RandomStreams(SEED).generator("quadratic")
    values = np.array([0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0])
    basis = np.linalg.qr(generator.normal(size=(7, 7)))[0]
    matrix = basis @ np.diag(values) @ basis.T
    optimizer = Optimizer("heavy-ball", 0.1, BETA)
    now = before = basis @ np.ones(7)
    path = []
    for _ in range(160):
        path.append(now)
        now, before = now - 0.1 * matrix @ now + BETA * (now - before), now
    errors, oracle = [], []
    for value, axis in zip(values, basis.T, strict=True):
        observed = matrix_pencil(np.array(path) @ axis).frequency
        step = np.array([[1 + BETA - 0.1 * value, -BETA], [1, 0]])
        exact = float(np.abs(np.angle(np.linalg.eigvals(step))).max())
        errors.append(abs(observed / mode(optimizer, float(value)).frequency - 1))
        oracle.append(abs(observed / exact - 1))
    what = (
        "worst relative error of the observed frequency, seven underdamped modes of a quadratic, heavy ball"
    )
    return [
        _row(
            "harmonics.quadratic",
            what,
            max(errors),
            max(oracle),
            "numpy, exact recursion",
            7,
            "<= 0.02",
            0.02,
        )
    ]


def network() -> list[dict[str, Any]]:
    """A tanh network: free swings, noise, the edge of stability, and the peaks of both sweeps."""
    random = RandomStreams(SEED)
    net, theta = experiment.draw(random, 0.0)
    values = eigenpairs(net, theta)[0]
    rate = 0.45 * 2 * (1 + BETA) / float(values[0])
    plain = Optimizer("heavy-ball", rate, BETA)
    other, shifted = experiment.draw(random, DECAY)
    legs = {
        "free": experiment.free(net, theta, plain, "free"),
        "free_decay": experiment.free(other, shifted, Optimizer("heavy-ball", rate, BETA, DECAY), "decay"),
        "noise": experiment.noisy(net, theta, plain, random, steps=20000),
    }
    edge, sharpness = experiment.at_edge(net, theta, random)
    legs["edge"] = [edge]
    said = {
        "free": "pushed from a minimum, no decay",
        "free_decay": f"pushed from a minimum, decay {DECAY}",
        "noise": "white gradient noise at a minimum, no decay",
        "edge": f"top mode at the edge of stability, sharpness {sharpness:.4f} times 2/rate",
    }
    found = []
    for name, rows in legs.items():
        worst = max(row.relative_error for row in rows)
        blind = max(abs(row.decay_only / row.observed.frequency - 1) for row in rows)
        what = f"worst relative error of the observed frequency, {said[name]}"
        count = len(rows)
        found.append(_row(f"harmonics.{name}", what, worst, blind, "decay alone", count, "<= 0.05", 0.05))
    slow, index = Optimizer("heavy-ball", rate / 10, BETA), 2
    value, periods = float(values[index]), tuple(range(4, 62, 2))
    order = experiment.sweep_order(net, theta, slow, index, periods)
    cyclic = experiment.sweep_rate(net, theta, slow, index, periods, 0.5)
    worst = max(abs(row.measured / row.predicted - 1) for row in order)
    what = "worst relative error of the measured gain, batch order, periods 4 to 60; baseline: a flat gain"
    flat = max(abs(order[-1].measured / row.measured - 1) for row in order)
    found.append(_row("harmonics.gain", what, worst, flat, "flat", len(order), "<= 0.05", 0.05))
    swing = mode(slow, value).frequency
    for name, rows, aim in (("order", order, resonant_frequency(slow, value)), ("rate", cyclic, 2 * swing)):
        peak = 2 * math.pi / max(rows, key=lambda row: row.measured).period
        what = f"distance of the peak ({peak:.3f} rad/step) of the {name} sweep from {aim:.3f}, relative"
        literal = f"literal condition {value:.3f}"
        # Two steps between periods: the peak is known to one part in the period.
        found.append(
            _row(
                f"harmonics.peak_{name}",
                what,
                abs(peak / aim - 1),
                abs(peak / value - 1),
                literal,
                len(rows),
                "<= 0.1, the grid of periods",
                0.1,
            )
        )
    return found


def _row(
    identifier: str,
    what: str,
    value: float,
    baseline: float,
    baseline_version: str,
    count: int,
    target: str,
    limit: float,
) -> dict[str, Any]:
    return {
        "id": identifier,
        "what": what,
        "value": value,
        "sd": None,
        "n": count,
        "unit": "1",
        "baseline": baseline,
        "baseline_version": baseline_version,
        "target": target,
        "met": value <= limit,
        "machine": f"{platform.machine()}, 1 thread, {platform.system()}",
        "versions": {name: importlib.metadata.version(name) for name in ("atlas-lossyscape", "numpy")},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows, those of the same id replaced, the others kept."""
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else []
    fresh = {row["id"]: row for row in rows}
    merged = [fresh.pop(row["id"], row) for row in kept] + list(fresh.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merged, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
