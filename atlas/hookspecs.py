"""The whole extension surface.

Each hook returns what one plugin offers, by name; the names are those in its card, which is read
without importing the plugin. The host calls a hook only in a plugin that a run names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from atlas.contracts import (
        Instrument,
        LossTerm,
        ReportSection,
        StimulusSource,
        SynthesisAdapter,
        TargetSource,
    )
    from atlas.governance import PolicyFactory
    from atlas.tables import TableSchema

__all__ = ["hookimpl"]

hookspec = pluggy.HookspecMarker("atlas")
hookimpl = pluggy.HookimplMarker("atlas")
"""Marks a function of a plugin's module as the implementation of the hook of the same name."""


@hookspec
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer instruments; called in the process of each step that uses one of them."""
    raise AssertionError("a specification is never called")


@hookspec
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer table schemas, keyed `name/version`; called in a step of this plugin when it writes a table."""
    raise AssertionError("a specification is never called")


@hookspec
def atlas_loss_terms() -> Mapping[str, LossTerm]:
    """Offer loss terms; called when a target's or step's parameters name one of them."""
    raise AssertionError("a specification is never called")


@hookspec
def atlas_synthesis_adapters() -> Mapping[str, SynthesisAdapter]:
    """Offer synthesis backends; called in the process of a synthesis step that names one."""
    raise AssertionError("a specification is never called")


@hookspec
def atlas_targets() -> Mapping[str, TargetSource]:
    """Offer kinds of target; called after Read #0, when a step opens one."""
    raise AssertionError("a specification is never called")


@hookspec
def atlas_stimuli() -> Mapping[str, StimulusSource]:
    """Offer stimulus sources; called while a run is prepared, before its first gate."""
    raise AssertionError("a specification is never called")


@hookspec
def atlas_governance() -> Mapping[str, PolicyFactory]:
    """Offer governance policies; called whenever a governed run is planned, resumed or graded."""
    raise AssertionError("a specification is never called")


@hookspec
def atlas_report_sections() -> Mapping[str, ReportSection]:
    """Offer report sections; called when a report is built, after the interpretation gate."""
    raise AssertionError("a specification is never called")
