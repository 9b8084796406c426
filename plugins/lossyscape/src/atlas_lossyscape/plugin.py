"""The hooks of the plugin; torch is imported when a step needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from atlas.contracts import Fragment, Instrument, ReportSection, StepContext
from atlas.hookspecs import hookimpl
from atlas.tables import TableSchema
from atlas_lossyscape.harmonics.schemas import SCHEMAS as HARMONICS
from atlas_lossyscape.links.schemas import SCHEMAS as LINKS
from atlas_lossyscape.schemas import SCHEMAS

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["atlas_instruments", "atlas_report_sections", "atlas_schemas"]


def _potential(context: StepContext) -> None:
    from atlas_lossyscape.potential import measure

    measure(context)


def _tension(context: StepContext) -> None:
    from atlas_lossyscape.tension import measure

    measure(context)


def _link_sheet(context: StepContext) -> None:
    from atlas_lossyscape.links.instrument import compare_proxies

    compare_proxies(context)


def _render_slices(view: RunView, step: str) -> Fragment:
    from atlas_lossyscape.section import render

    return render(view, step)


def _render_links(view: RunView, step: str) -> Fragment:
    from atlas_lossyscape.links.section import render

    return render(view, step)


def _render_harmonics(view: RunView, step: str) -> Fragment:
    from atlas_lossyscape.harmonics.section import render

    return render(view, step)


def _harmonics(context: StepContext) -> None:
    from atlas_lossyscape.harmonics.instruments import predict

    predict(context)


def _harmonics_experiment(context: StepContext) -> None:
    from atlas_lossyscape.harmonics.instruments import run_experiment

    run_experiment(context)


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the instruments."""
    return {
        "potential": _potential,
        "tension": _tension,
        "link-sheet": _link_sheet,
        "harmonics": _harmonics,
        "harmonics-experiment": _harmonics_experiment,
    }


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer the tables that they write."""
    return {**SCHEMAS, **LINKS, **HARMONICS}


@hookimpl
def atlas_report_sections() -> Mapping[str, ReportSection]:
    """Offer what a report shows of their steps."""
    return {
        "potential-and-tension": _render_slices,
        "link-relations": _render_links,
        "harmonics": _render_harmonics,
    }
