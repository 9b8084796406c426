"""The hooks of the plugin; torch is imported when a step needs it."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.contracts import Instrument, StepContext
from atlas.hookspecs import hookimpl
from atlas.tables import TableSchema
from atlas_lossyscape.harmonics.schemas import SCHEMAS as HARMONICS
from atlas_lossyscape.schemas import SCHEMAS

__all__ = ["atlas_instruments", "atlas_schemas"]


def _potential(context: StepContext) -> None:
    from atlas_lossyscape.potential import measure

    measure(context)


def _tension(context: StepContext) -> None:
    from atlas_lossyscape.tension import measure

    measure(context)


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
        "harmonics": _harmonics,
        "harmonics-experiment": _harmonics_experiment,
    }


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer the tables that they write."""
    return {**SCHEMAS, **HARMONICS}
