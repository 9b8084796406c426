"""Observed against predicted frequencies and gains of training: `python benchmarks/harmonics.py [--row ID]`.

The quadratic's second opinion is the exact linear recursion's eigenvalues, by numpy. The network's is the
literal condition that a drive resonates where its frequency equals the eigenvalue, or the frequency that
decay alone would give. The rows at the edge are over several networks. All draws come from fixed seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
from atlas_lossyscape.harmonics import experiment
from atlas_lossyscape.harmonics.certificate import certified_pairs
from atlas_lossyscape.harmonics.comparison import ALLOWED, Comparison
from atlas_lossyscape.harmonics.edge import at_edge
from atlas_lossyscape.harmonics.gain import resonant_frequency
from atlas_lossyscape.harmonics.modes import Optimizer, Rule, mode
from atlas_lossyscape.harmonics.network import Network
from atlas_lossyscape.harmonics.signals import matrix_pencil
from atlas_lossyscape.harmonics.sweeps import Peak, order_peak, rate_peak, sweep_order, sweep_rate
from attrs import evolve
from rows import RESULTS, result_row, write

from atlas.errors import InstrumentFailed
from atlas.randomness import RandomStreams

SEED = 7
NETWORKS = 8
BETA = 0.9
DECAY = 0.01
SHARE = 0.45
FAST = 0.05
"""Share of the edge from which a mode at the edge counts as fast."""


def main() -> int:
    """Measure the rows that were asked for and write them beside what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--row", help="rows whose id begins so")
    arguments = parser.parse_args()
    rows = [row for row in (*quadratic(), *network(), *edges()) if row["id"].startswith(arguments.row or "")]
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
        observed, _ = matrix_pencil(np.array(path) @ axis)
        step = np.array([[1 + BETA - 0.1 * value, -BETA], [1, 0]])
        exact = float(np.abs(np.angle(np.linalg.eigvals(step))).max())
        errors.append(abs(observed / mode(optimizer, float(value)).frequency - 1))
        oracle.append(abs(observed / exact - 1))
    what = (
        "worst relative error of the observed frequency, seven underdamped modes of a quadratic, heavy ball"
    )
    opinion = "numpy, exact recursion"
    return [_row("harmonics.quadratic", what, max(errors), max(oracle), opinion, 7, "<= 0.02", 0.02)]


def network() -> list[dict[str, Any]]:
    """A tanh network at its minimum: free swings, noise, Adam, and the peaks of both sweeps."""
    random = RandomStreams(SEED)
    net, theta = experiment.draw(random, 0.0)
    pairs = certified_pairs(net, theta)

    def optimizer(rule: Rule, share: float, decay: float = 0.0) -> Optimizer:
        rate = share * Optimizer(rule, 1.0, BETA).edge / float(pairs.values[0])
        return Optimizer(rule, rate, BETA, decay)

    ball = optimizer("heavy-ball", SHARE)
    other, shifted = experiment.draw(random, DECAY)
    adam, _ = experiment.under_adam(net, theta, BETA, random, steps=20000, share=SHARE)
    said = {
        "free": (experiment.free(net, theta, ball, "free"), "pushed from a minimum, heavy ball, no decay"),
        "free_nesterov": (
            experiment.free(net, theta, optimizer("nesterov", SHARE), "free"),
            "pushed from a minimum, Nesterov, no decay",
        ),
        "free_decay": (
            experiment.free(other, shifted, optimizer("heavy-ball", SHARE, DECAY), "decay"),
            f"pushed from a minimum, heavy ball, decay {DECAY}",
        ),
        "approach": (
            experiment.approach(net, theta, BETA),
            "top mode at 50% to 98% of the rate that it bears, heavy ball",
        ),
        "noise": (
            experiment.noisy(net, theta, ball, random, steps=20000),
            "white gradient noise at a minimum, heavy ball, no decay",
        ),
        "adam": (adam, "Adam on noisy batches at a minimum, against its preconditioned Hessian, no decay"),
    }
    found = [
        _worst(f"harmonics.{name}", f"worst relative error of the observed frequency, {text}", rows)
        for name, (rows, text) in said.items()
    ]
    slow, index = optimizer("heavy-ball", SHARE / 10), 2
    value = float(pairs.values[index])
    order = sweep_order(net, theta, slow, pairs, index, range(4, 61, 2), random)
    cyclic = sweep_rate(net, theta, slow, pairs, index, range(3, 61), 0.5, random)
    score = float(np.sqrt(np.mean([((r.measured - r.predicted) / r.standard_error) ** 2 for r in order])))
    worst = max(abs(row.measured / row.predicted - 1) for row in order)
    what = (
        "worst relative error of the measured gain amid noise, batch order, periods 4 to 60, rms "
        f"{score:.2f} standard errors; baseline: a flat gain"
    )
    flat = max(abs(order[-1].measured / row.measured - 1) for row in order)
    found.append(_row("harmonics.gain", what, worst, flat, "flat", len(order), "<= 0.05", 0.05))
    predicted = rate_peak([evolve(row, measured=row.predicted) for row in cyclic]).frequency
    found.append(_peak("order", order_peak(order), resonant_frequency(slow, value), value, len(order)))
    found.append(_peak("rate", rate_peak(cyclic), predicted, value, len(cyclic)))
    return found


def edges() -> list[dict[str, Any]]:
    """Heavy ball, Nesterov and Adam held at the edge of stability, over several networks."""
    rules: tuple[Rule, ...] = ("heavy-ball", "nesterov", "adam")
    rows: dict[Rule, list[Comparison]] = {rule: [] for rule in rules}
    held: dict[Rule, list[float]] = {rule: [] for rule in rules}
    for random, net, theta in islice(_networks(), NETWORKS):
        for rule in rules:
            found = at_edge(net, theta, rule, BETA, random)
            rows[rule] += [row for row in found.rows if row.index > 1]
            held[rule].append(found.sharpness)
    result = []
    for rule in rules:
        sure = [row for row in rows[rule] if row.resolved]
        fast = [row for row in sure if row.edge_share >= FAST]
        name = rule.replace("-", "_")
        span = f"{min(held[rule]):.4f} to {max(held[rule]):.4f}"
        at = f"{rule} at the edge, {NETWORKS} networks, sharpness {span}"
        left = len(rows[rule]) - len(sure)
        within = sum(row.relative_error <= ALLOWED for row in sure)
        result += [
            _worst(
                f"harmonics.edge_{name}",
                f"worst relative error of the observed frequency, {at}, modes from {FAST} of the edge, "
                "without the top one",
                fast,
            ),
            _worst(
                f"harmonics.edge_{name}_all",
                f"the same, all resolved modes ({within} of {len(sure)} within 5%; {left} not resolved)",
                sure,
            ),
        ]
        both = [abs(row.observed.frequency / row.both_ends - 1) for row in sure if row.both_ends]
        if both:
            what = "the same, all resolved modes, predicted by the curvature at both ends of the alternation"
            mean = max(row.relative_error for row in sure)
            name = f"harmonics.edge_{name}_both_ends"
            opinion = "curvature at the mean parameters"
            result.append(_row(name, what, max(both), mean, opinion, len(both), "<= 0.05", ALLOWED))
    return result


def _networks() -> Iterator[tuple[RandomStreams, Network, np.ndarray]]:
    """Yield the networks of the seeds from 7 on that have a well-conditioned minimum."""
    for seed in count(SEED):
        random = RandomStreams(seed)
        try:
            yield random, *experiment.draw(random, 0.0)
        except InstrumentFailed:
            continue


def _worst(identifier: str, what: str, rows: Sequence[Comparison]) -> dict[str, Any]:
    worst = max(rows, key=lambda row: row.relative_error)
    blind = max(abs(row.decay_only / row.observed.frequency - 1) for row in rows)
    row = _row(identifier, what, worst.relative_error, blind, "decay alone", len(rows), "<= 0.05", ALLOWED)
    return {**row, "sd": float(worst.observed.standard_error / worst.expected.frequency)}


def _peak(name: str, found: Peak, predicted: float, literal: float, repeats: int) -> dict[str, Any]:
    what = (
        f"distance of the peak ({found.frequency:.5f} rad/step) of the {name} sweep from {predicted:.5f}, "
        "relative"
    )
    value, missed = abs(found.frequency / predicted - 1), abs(found.frequency / literal - 1)
    said = f"literal condition {literal:.3f}"
    row = _row(f"harmonics.peak_{name}", what, value, missed, said, repeats, "<= 0.05", 0.05)
    return {**row, "sd": float(found.standard_error / predicted)}


def _row(
    identifier: str,
    what: str,
    value: float,
    baseline: float,
    baseline_version: str,
    repeats: int,
    target: str,
    limit: float,
) -> dict[str, Any]:
    return result_row(
        identifier,
        what,
        float(value),
        unit="1",
        target=target,
        met=bool(value <= limit),
        packages=("atlas-lossyscape", "atlas-pyhessian", "numpy", "torch"),
        baseline=float(baseline),
        baseline_version=baseline_version,
        n=repeats,
    )


if __name__ == "__main__":
    sys.exit(main())
