"""The instrument's hooks."""

from __future__ import annotations

import hashlib
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas.contracts import Fragment, Instrument, LossTerm, Progress, ReportSection, StepContext
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


class Weight:
    """A file that holds a number of grams."""

    def __init__(self, grams: float) -> None:
        self.grams = grams
        self.facts = {"grams": str(grams)}


OPEN: weakref.WeakSet[Weight] = weakref.WeakSet()


class WeightSource:
    """Opens such files."""

    def fetch(self, params: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Leave everything where it is."""
        return params

    def open(
        self, params: Mapping[str, Any], *, threads: int, loss_terms: Mapping[str, LossTerm] | None = None
    ) -> Weight:
        """Read the number, take the loss from it, and say how many others are open."""
        path = Path(params["path"], "grams.txt")
        weight = Weight(float(path.read_text()) * params["times"])
        for name, term in (loss_terms or {}).items():
            weight.grams += params["loss"][name] * float(term.function(None))
        weight.facts["others_open"] = str(len(OPEN))
        weight.facts["sha256:grams.txt"] = hashlib.sha256(path.read_bytes()).hexdigest()
        OPEN.add(weight)
        return weight


def weigh(context: StepContext) -> None:
    """Record the grams of each member, less those of the target that it is held against."""
    name = context.params.get("against")
    other: Any = context.target(name) if name else Weight(0.0)
    weight: Any
    for label, weight in context.targets():
        grams = weight.grams - other.grams
        context.record(Quantity("grams", grams, 0.0, "exact", "gram", slice=label or "all"))
        del weight


def tare(outputs: Any) -> Any:
    """Return the gram."""
    return -1.0


@hookimpl
def atlas_loss_terms() -> Mapping[str, LossTerm]:
    """Offer the tare."""
    return {"tare": LossTerm("tare", "weight", tare, 1.0, "model", "-1", "none")}


@hookimpl
def atlas_targets() -> Mapping[str, Any]:
    """Offer files of grams."""
    return {"weight": WeightSource()}


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
    return {"gauge": measure, "scales": weigh}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer its table."""
    return {LENGTHS.identifier: LENGTHS}
