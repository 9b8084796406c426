"""The instruments `harmonics`, which predicts, and `harmonics-experiment`, which compares with training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import evolve

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas.quantities import Quantity, UncertaintyKind
from atlas.tables import read_csv
from atlas_lossyscape.harmonics import experiment
from atlas_lossyscape.harmonics.certificate import Eigenpairs, certified_pairs
from atlas_lossyscape.harmonics.comparison import WRONG_RATE, Comparison
from atlas_lossyscape.harmonics.edge import ADAM_RATE, at_edge
from atlas_lossyscape.harmonics.gain import resonant_frequency
from atlas_lossyscape.harmonics.modes import Optimizer, Rule, frequency_interval, mode
from atlas_lossyscape.harmonics.network import Network
from atlas_lossyscape.harmonics.sweeps import (
    Drive,
    order_peak,
    rate_peak,
    sweep_order,
    sweep_rate,
)

__all__ = ["predict", "run_experiment"]

_RAD = "rad/step"
_SHARE = 0.45
"""Rate of the legs that stay below the edge, in units of the largest that the top mode bears."""
_RULES: tuple[Rule, ...] = ("gd", "heavy-ball", "nesterov", "adam")


def _optimizer(params: Mapping[str, Any]) -> Optimizer:
    return Optimizer(params["optimizer"], params["rate"], params["momentum"], params["decay"])


def predict(context: StepContext) -> None:
    """Record the mode of each eigenvalue of the spectrum that the step sees.

    Raises:
        BadInput: It sees no table `curvature-spectrum`.
    """
    from atlas_pyhessian.schemas import SPECTRUM

    optimizer = _optimizer(context.params)
    found = [path for name, path in context.inputs.items() if name.split("/")[-1] == "spectrum.csv"]
    if len(found) != 1:
        raise BadInput(
            f"step {context.step} sees {len(found)} spectra, needs one",
            fix="write sees: [{from: STEP.raw}] with the id of a pyhessian step",
        )
    rows = []
    for row in read_csv(SPECTRUM, found[0].read_bytes(), where=found[0].name):
        index, value, bound = row["index"], row["eigenvalue"], row["residual_norm"]
        if not isinstance(index, int) or not isinstance(value, float):
            continue
        swing = mode(optimizer, value)
        span = frequency_interval(optimizer, value, bound) if isinstance(bound, float) else None
        rows.append(
            {
                "slice": str(row["slice"]),
                "index": index,
                "eigenvalue": value,
                "residual_norm": bound,
                "frequency": swing.frequency,
                "frequency_low": span and span.low,
                "frequency_high": span and span.high,
                "damping": swing.damping if math.isfinite(swing.damping) else None,
                "resonant_frequency": resonant_frequency(optimizer, value) if swing.stable else None,
                "underdamped": swing.underdamped,
                "stable": swing.stable,
            }
        )
        half = None if span is None else max(span.high - span.value, span.value - span.low)
        context.record(
            Quantity(
                "mode_frequency",
                swing.frequency,
                half,
                UncertaintyKind.UNCERTIFIED if span is None else UncertaintyKind.RESIDUAL_BOUND,
                unit=_RAD,
                index=index,
                slice=str(row["slice"]),
                low=None if span is None else span.low,
                high=None if span is None else span.high,
                note=""
                if swing.stable
                else "the mode does not decay: beyond the edge, or not curved upwards",
            )
        )
    context.table("harmonics-modes", rows)


def run_experiment(context: StepContext) -> None:
    """Train the small network in every leg and compare what swings with what its curvature predicts."""
    params, random = context.params, context.random
    network, theta = experiment.draw(random, 0.0)
    pairs = certified_pairs(network, theta)
    beta, decay, sharpest = params["momentum"], params["decay"], float(pairs.values[0])

    def optimizer(rule: Rule, share: float, decay: float = 0.0) -> Optimizer:
        return Optimizer(rule, share * Optimizer(rule, 1.0, beta).edge / sharpest, beta, decay)

    ball = optimizer("heavy-ball", _SHARE)
    context.progress("free oscillations with and without decay")
    rows = experiment.free(network, theta, ball, "free")
    rows += experiment.free(network, theta, optimizer("nesterov", _SHARE), "free-nesterov")
    other, shifted = experiment.draw(random, decay)
    rows += experiment.free(other, shifted, optimizer("heavy-ball", _SHARE, decay), "free-decay")
    rows += experiment.approach(network, theta, beta)
    context.progress("gradient noise without decay")
    rows += experiment.noisy(network, theta, ball, random, steps=params["noise_steps"])
    context.progress("Adam on batches")
    adam, scatter = experiment.under_adam(
        network, theta, beta, random, steps=params["noise_steps"], share=_SHARE
    )
    rows += adam
    context.fact("adam_second_moments_scatter", f"{scatter:.3g}")
    for rule in _RULES:
        context.progress(f"edge of stability, {rule}")
        held = at_edge(network, theta, rule, beta, random)
        rows += held.rows
        context.record(
            Quantity(
                f"edge_sharpness.{rule}",
                held.sharpness,
                held.bound,
                UncertaintyKind.RESIDUAL_BOUND,
                note="in units of the edge, at mean parameters; rate "
                + (f"{held.over:g} of what the minimum bears" if rule != "adam" else f"{ADAM_RATE:g}"),
            )
        )
    context.table("harmonics-comparison", [_row(row) for row in rows])
    for leg in dict.fromkeys(row.leg for row in rows):
        _summarise(context, leg, [row for row in rows if row.leg == leg])
    _sweeps(context, network, theta, pairs, optimizer("heavy-ball", _SHARE / 10))


def _summarise(context: StepContext, leg: str, rows: Sequence[Comparison]) -> None:
    """Record a leg's worst resolved error, and how many of its rows tell the prediction from wrong ones."""
    resolved = [row for row in rows if row.resolved]
    if resolved:
        worst = max(resolved, key=lambda row: row.relative_error)
        error = worst.observed.standard_error / worst.expected.frequency
        note = f"mode {worst.index}; {len(rows) - len(resolved)} of {len(rows)} not resolved"
        context.record(
            Quantity(
                f"worst_frequency_error.{leg}",
                worst.relative_error,
                error,
                UncertaintyKind.STANDARD_ERROR,
                num_samples=len(resolved),
                note=note,
            )
        )
    ends = [row for row in resolved if row.both_ends is not None]
    if ends:
        far = max(ends, key=_both_ends_error)
        context.record(
            Quantity(
                f"worst_both_ends_error.{leg}",
                _both_ends_error(far),
                far.observed.standard_error / far.expected.frequency,
                UncertaintyKind.STANDARD_ERROR,
                num_samples=len(ends),
                note=f"mode {far.index}; predicted by the curvature at both ends of the alternation",
            )
        )
    told = [row for row in rows if row.rejects(row.wrong_rate) and row.rejects(row.wrong_eigenvalue)]
    context.record(
        Quantity(
            f"controls_rejected.{leg}",
            float(len(told)),
            0.0,
            UncertaintyKind.EXACT,
            num_samples=len(rows),
            note=f"rows that miss both a rate {WRONG_RATE} times too large and the next eigenvalue",
        )
    )


def _both_ends_error(row: Comparison) -> float:
    return math.inf if row.both_ends is None else abs(row.observed.frequency / row.both_ends - 1)


def _sweeps(
    context: StepContext, network: Network, theta: np.ndarray, pairs: Eigenpairs, slow: Optimizer
) -> None:
    params, random, index = context.params, context.random, context.params["mode"] - 1
    value = float(pairs.values[index])
    swing = mode(slow, value)
    context.check(
        "driven mode",
        swing.underdamped,
        f"mode {index + 1}, driven, has frequency {swing.frequency:.3g} rad/step and must swing",
    )
    context.progress("periods of batch order and of a cyclic rate")
    longest = 1 + params["longest_period"]
    order = sweep_order(network, theta, slow, pairs, index, range(4, longest, 2), random)
    cyclic = sweep_rate(network, theta, slow, pairs, index, range(3, longest), params["amplitude"], random)
    context.table("harmonics-sweep", [_drive(row) for row in (*order, *cyclic)])
    said = rate_peak([evolve(row, measured=row.predicted) for row in cyclic]).frequency
    for name, rows, found, predicted in (
        ("order", order, order_peak(order), resonant_frequency(slow, value)),
        ("rate", cyclic, rate_peak(cyclic), said),
    ):
        context.record(
            Quantity(
                f"peak_frequency.{name}",
                found.frequency,
                found.standard_error,
                UncertaintyKind.STANDARD_ERROR,
                unit=_RAD,
                num_samples=len(rows),
                note=f"predicted {predicted:.6g}; the literal condition says {value:.6g}",
            )
        )
    context.fact("sweep_eigenvalue", f"{value:.9g}")
    context.fact("sweep_frequency", f"{swing.frequency:.9g}")


def _row(row: Comparison) -> dict[str, Any]:
    return {
        "leg": row.leg,
        "index": row.index,
        "rule": row.rule,
        "edge_share": row.edge_share,
        "eigenvalue": row.eigenvalue,
        "residual_norm": row.residual_norm,
        "predicted": row.expected.frequency,
        "predicted_low": row.low,
        "predicted_high": row.high,
        "decay_only": row.decay_only,
        "wrong_rate": row.wrong_rate,
        "wrong_eigenvalue": row.wrong_eigenvalue,
        "both_ends": row.both_ends,
        "observed": row.observed.frequency,
        "standard_error": row.observed.standard_error,
        "relative_error": row.relative_error,
        "resolved": row.resolved,
        "rate_rejected": row.rejects(row.wrong_rate),
        "eigenvalue_rejected": row.rejects(row.wrong_eigenvalue),
        "damping": row.expected.damping,
        "observed_damping": row.observed.damping,
        "damping_error": row.observed.damping_error,
    }


def _drive(row: Drive) -> dict[str, Any]:
    return {
        "drive": row.what,
        "period": row.period,
        "frequency": row.frequency,
        "predicted": row.predicted,
        "measured": row.measured,
        "standard_error": row.standard_error,
    }
