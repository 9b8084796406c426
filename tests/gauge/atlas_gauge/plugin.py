"""The instrument's hooks."""

from __future__ import annotations

import time
from collections.abc import Mapping

from atlas.contracts import Fragment, Instrument, ReportSection, StepContext
from atlas.hookspecs import hookimpl
from atlas.quantities import Quantity
from atlas.record import RunView
from atlas.tables import Column, TableSchema

LENGTHS = TableSchema(
    "gauge-lengths",
    1,
    "Characters of each item.",
    (
        Column("slice", "string", "Slice.", required=True),
        Column("item", "string", "Item.", required=True),
        Column("characters", "integer", "Characters.", unit="character", required=True),
        Column("code", "string", "The Technician's code.", judgement=True),
    ),
)


def measure(context: StepContext) -> None:
    """Count characters, and estimate the mean of a uniform draw."""
    context.check("stimulus-present", bool(context.slices), f"{len(context.slices)} slices")
    context.progress("counting", done=0, total=len(context.slices), residual=1.0)
    time.sleep(context.params["delay_s"])
    if context.params["fail"]:
        raise RuntimeError("the gauge was asked to fail")
    attempts = context.keep / "attempts"
    made = 1 + (int(attempts.read_text()) if attempts.exists() else 0)
    attempts.write_text(str(made))
    if made <= context.params["failures"]:
        raise RuntimeError(f"attempt {made} was asked to fail")
    rows = []
    for part in context.slices:
        total = sum(len(item.text) for item in part.items)
        rows += [{"slice": part.key, "item": i.id, "characters": len(i.text)} for i in part.items]
        context.record(Quantity("characters", total, 0.0, "exact", "character", slice=part.key))
        draws = context.random.generator("gauge", name=part.key).uniform(size=context.params["draws"])
        error = float(draws.std(ddof=1) / len(draws) ** 0.5)
        context.record(
            Quantity(
                "mean", float(draws.mean()), error, "standard_error", num_samples=len(draws), slice=part.key
            )
        )
    context.table("lengths", rows)


def draw(view: RunView, step: str) -> Fragment:
    """Say which step was drawn, unless the run is unlucky."""
    if view.manifest["name"] == "unlucky":
        raise RuntimeError("no luck <b>today</b>")
    return Fragment("Gauge", f"<p>drawn: {step}</p>")


@hookimpl
def atlas_report_sections() -> Mapping[str, ReportSection]:
    """Offer the section."""
    return {"gauge": draw}


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the gauge."""
    return {"gauge": measure}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer its table."""
    return {LENGTHS.identifier: LENGTHS}
