"""The hooks of the plugin; torch is imported when a step needs it."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.contracts import Instrument
from atlas.hookspecs import hookimpl
from atlas.tables import TableSchema

__all__ = ["atlas_instruments", "atlas_schemas"]


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the instruments."""
    return {}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer the tables that they write."""
    return {}
