"""The hooks of the plugin; torch is imported when a step needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from atlas.contracts import Fragment, Instrument, LossTerm, ReportSection, StepContext
from atlas.hookspecs import hookimpl
from atlas.tables import TableSchema
from atlas_worldmodel.agent_schemas import AGENT_SCHEMAS
from atlas_worldmodel.phase_schemas import PHASE_SCHEMAS
from atlas_worldmodel.world_schemas import WORLD_SCHEMAS

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["atlas_instruments", "atlas_loss_terms", "atlas_report_sections", "atlas_schemas"]


def _collect(context: StepContext) -> None:
    from atlas_worldmodel.collect_instrument import run

    run(context)


def _agent(context: StepContext) -> None:
    from atlas_worldmodel.agent_instrument import run

    run(context)


def _phase_1(context: StepContext) -> None:
    from atlas_worldmodel.phase_instruments import phase_1

    phase_1(context)


def _phase_2(context: StepContext) -> None:
    from atlas_worldmodel.phase_instruments import phase_2

    phase_2(context)


def _phase_3(context: StepContext) -> None:
    from atlas_worldmodel.phase_instruments import phase_3

    phase_3(context)


def _worldmodel(context: StepContext) -> None:
    from atlas_worldmodel.world_instrument import run

    run(context)


def _render_world(view: RunView, step: str) -> Fragment:
    from atlas_worldmodel.world_section import render

    return render(view, step)


def _render_phase(view: RunView, step: str) -> Fragment:
    from atlas_worldmodel.phase_section import render

    return render(view, step)


def _render_agent(view: RunView, step: str) -> Fragment:
    from atlas_worldmodel.agent_section import render

    return render(view, step)


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the instruments."""
    return {
        "agent": _agent,
        "collect": _collect,
        "phase1": _phase_1,
        "phase2": _phase_2,
        "phase3": _phase_3,
        "worldmodel": _worldmodel,
    }


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer their tables."""
    return {**AGENT_SCHEMAS, **PHASE_SCHEMAS, **WORLD_SCHEMAS}


@hookimpl
def atlas_loss_terms() -> Mapping[str, LossTerm]:
    """Offer the loss terms."""
    from atlas_worldmodel.phase_terms import PHASE_TERMS
    from atlas_worldmodel.policy_terms import POLICY_TERMS
    from atlas_worldmodel.world_terms import WORLD_TERMS

    return {**PHASE_TERMS, **POLICY_TERMS, **WORLD_TERMS}


@hookimpl
def atlas_report_sections() -> Mapping[str, ReportSection]:
    """Offer the sections of a report."""
    return {"agent": _render_agent, "phase": _render_phase, "world": _render_world}
