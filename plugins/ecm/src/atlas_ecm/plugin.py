"""The hooks of the behavioural reader."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.contracts import Instrument, StimulusSource
from atlas.hookspecs import hookimpl
from atlas.tables import TableSchema
from atlas_ecm.claims import BsaStimuli
from atlas_ecm.measurement import measure
from atlas_ecm.reader.measurement import measure as measure_sessions
from atlas_ecm.reader.schemas import FILES, SESSIONS
from atlas_ecm.schemas import ANSWERS, READINGS, SCORES

__all__ = ["atlas_instruments", "atlas_schemas", "atlas_stimuli"]


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the scoring of the paired claims, and the reading of sessions."""
    return {"bsa": measure, "ecm": measure_sessions}


@hookimpl
def atlas_stimuli() -> Mapping[str, StimulusSource]:
    """Offer the paired claims."""
    return {"bsa": BsaStimuli()}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer the tables of a behavioural record and of sessions."""
    return {schema.identifier: schema for schema in (ANSWERS, READINGS, SCORES, SESSIONS, FILES)}
