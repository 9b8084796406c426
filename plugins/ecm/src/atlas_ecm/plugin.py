"""The hooks of the behavioural reader."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.contracts import Instrument, ReportSection, StimulusSource
from atlas.hookspecs import hookimpl
from atlas.tables import TableSchema
from atlas_ecm.claims import BsaStimuli
from atlas_ecm.live.measurement import measure as hold_sessions
from atlas_ecm.measurement import measure
from atlas_ecm.reader.measurement import measure as read_sessions
from atlas_ecm.reader.schemas import FILES, HELD, SESSIONS
from atlas_ecm.schemas import ANSWERS, READINGS, SCORES
from atlas_ecm.sections import claims, sessions

__all__ = ["atlas_instruments", "atlas_report_sections", "atlas_schemas", "atlas_stimuli"]


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the scoring of the paired claims, and sessions read from files or held here."""
    return {"bsa": measure, "ecm": read_sessions, "ecm-live": hold_sessions}


@hookimpl
def atlas_report_sections() -> Mapping[str, ReportSection]:
    """Offer the sections on sessions and on the claims."""
    return {"ecm": sessions.render, "bsa": claims.render}


@hookimpl
def atlas_stimuli() -> Mapping[str, StimulusSource]:
    """Offer the paired claims."""
    return {"bsa": BsaStimuli()}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer the tables of a behavioural record and of sessions."""
    return {schema.identifier: schema for schema in (ANSWERS, READINGS, SCORES, SESSIONS, FILES, HELD)}
