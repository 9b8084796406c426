"""The hooks of the plugin; torch is imported when a step needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from atlas.contracts import (
    Fragment,
    Instrument,
    LossTerm,
    ReportSection,
    StepContext,
    StimulusSource,
    TargetSource,
)
from atlas.hookspecs import hookimpl
from atlas.tables import TableSchema
from atlas_topoencoder.schemas import SCHEMAS
from atlas_topoencoder.source import TopoEncoderSource
from atlas_topoencoder.stimuli import ExampleSource

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = [
    "atlas_instruments",
    "atlas_loss_terms",
    "atlas_report_sections",
    "atlas_schemas",
    "atlas_stimuli",
    "atlas_targets",
]


def _train(context: StepContext) -> None:
    from atlas_topoencoder.instrument import run

    run(context)


def _render(view: RunView, step: str) -> Fragment:
    from atlas_topoencoder.section import render

    return render(view, step)


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the training."""
    return {"topoencoder": _train}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer its tables."""
    return SCHEMAS


@hookimpl
def atlas_loss_terms() -> Mapping[str, LossTerm]:
    """Offer the loss terms."""
    from atlas_topoencoder.losses.terms import TERMS

    return TERMS


@hookimpl
def atlas_targets() -> Mapping[str, TargetSource]:
    """Offer trained models as targets."""
    return {"topoencoder": TopoEncoderSource()}


@hookimpl
def atlas_stimuli() -> Mapping[str, StimulusSource]:
    """Offer rows of a data set."""
    return {"examples": ExampleSource()}


@hookimpl
def atlas_report_sections() -> Mapping[str, ReportSection]:
    """Offer the atlas's section of a report."""
    return {"topoencoder": _render}
