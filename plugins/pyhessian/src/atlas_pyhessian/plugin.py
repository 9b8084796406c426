"""The hooks of the curvature plugin; torch and matplotlib are imported when a step or report needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from atlas.contracts import Fragment, Instrument, ReportSection, StepContext
from atlas.hookspecs import hookimpl
from atlas.tables import TableSchema
from atlas_pyhessian.schemas import SCHEMAS

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["atlas_instruments", "atlas_report_sections", "atlas_schemas"]


def _measure(context: StepContext) -> None:
    from atlas_pyhessian.instrument import measure

    measure(context)


def _render(view: RunView, step: str) -> Fragment:
    from atlas_pyhessian.section import render

    return render(view, step)


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the curvature instrument."""
    return {"pyhessian": _measure}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer the tables of a curvature measurement."""
    return SCHEMAS


@hookimpl
def atlas_report_sections() -> Mapping[str, ReportSection]:
    """Offer the spectrum's section of a report."""
    return {"pyhessian": _render}
