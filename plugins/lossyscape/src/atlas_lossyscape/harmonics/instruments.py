"""The instruments `harmonics`, which predicts, and `harmonics-experiment`, which compares with training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas.quantities import Quantity, UncertaintyKind
from atlas.tables import read_csv
from atlas_lossyscape.harmonics import experiment
from atlas_lossyscape.harmonics.gain import resonant_frequency
from atlas_lossyscape.harmonics.modes import Optimizer, frequency_interval, mode
from atlas_lossyscape.harmonics.network import eigenpairs

__all__ = ["predict", "run_experiment"]

_RAD = "rad/step"


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
    """Train the small network, with and without decay and with noise, and compare with the predictions."""
    params, random = context.params, context.random
    network, theta = experiment.draw(random, 0.0)
    sharpest = float(eigenpairs(network, theta)[0][0])
    beta, decay = params["momentum"], params["decay"]
    rate = 0.45 * 2 * (1 + beta) / sharpest
    plain = Optimizer("heavy-ball", rate, beta)
    context.progress("free oscillations without decay")
    rows = experiment.free(network, theta, plain, "free")
    context.progress("free oscillations with decay")
    other, shifted = experiment.draw(random, decay)
    rows += experiment.free(other, shifted, Optimizer("heavy-ball", rate, beta, decay), "free-decay")
    context.progress("gradient noise without decay")
    rows += experiment.noisy(network, theta, plain, random, steps=params["noise_steps"])
    edge, sharpness = experiment.at_edge(network, theta, random)
    rows.append(edge)
    context.table("harmonics-comparison", [_row(row) for row in rows])
    for leg in ("free", "free-decay", "noise", "edge"):
        errors = [row for row in rows if row.leg == leg]
        context.check(leg, bool(errors), f"leg {leg} has {len(errors)} modes, needs 1")
        worst = max(errors, key=lambda row: row.relative_error)
        context.record(
            Quantity(
                f"worst_frequency_error.{leg}",
                worst.relative_error,
                worst.observed.standard_error / worst.predicted,
                UncertaintyKind.STANDARD_ERROR,
                num_samples=len(errors),
                note=f"mode {worst.index}",
            )
        )
    context.record(
        Quantity("edge_sharpness", sharpness, None, UncertaintyKind.UNCERTIFIED, note="in units of 2 / rate")
    )
    _sweeps(context, network, theta, Optimizer("heavy-ball", rate / 10, beta))


def _sweeps(context: StepContext, network: Any, theta: Any, slow: Optimizer) -> None:
    index = context.params["mode"] - 1
    value = float(eigenpairs(network, theta)[0][index])
    swing = mode(slow, value)
    context.check("mode", swing.underdamped, f"mode {index + 1} is not underdamped at momentum {slow.beta}")
    context.progress("periods of batch order and of a cyclic rate")
    periods = tuple(range(4, 2 + context.params["longest_period"], 2))
    order = experiment.sweep_order(network, theta, slow, index, periods)
    cyclic = experiment.sweep_rate(network, theta, slow, index, periods, context.params["amplitude"])
    context.table("harmonics-sweep", [_drive(row) for row in (*order, *cyclic)])
    for name, rows, predicted in (
        ("order", order, resonant_frequency(slow, value)),
        ("rate", cyclic, 2 * swing.frequency),
    ):
        peak = max(rows, key=lambda row: row.measured)
        near = [2 * math.pi / (peak.period + shift) for shift in (2, -2)]
        found = 2 * math.pi / peak.period
        context.record(
            Quantity(
                f"peak_frequency.{name}",
                found,
                max(found - near[0], near[1] - found),
                UncertaintyKind.RESIDUAL_BOUND,
                unit=_RAD,
                num_samples=len(rows),
                low=near[0],
                high=near[1],
                note=f"predicted {predicted:.4f}; literal condition {value:.4f}; ends: the periods beside",
            )
        )


def _row(row: experiment.Comparison) -> dict[str, Any]:
    return {
        "leg": row.leg,
        "index": row.index,
        "eigenvalue": row.eigenvalue,
        "residual_norm": row.residual_norm,
        "predicted": row.predicted,
        "predicted_low": row.low,
        "predicted_high": row.high,
        "decay_only": row.decay_only,
        "observed": row.observed.frequency,
        "standard_error": row.observed.standard_error,
        "relative_error": row.relative_error,
    }


def _drive(row: experiment.Drive) -> dict[str, Any]:
    return {
        "drive": row.what,
        "period": row.period,
        "frequency": 2 * math.pi / row.period,
        "predicted": row.predicted,
        "measured": row.measured,
    }
