"""The hooks of the synthesis plugin."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.contracts import Instrument, SynthesisAdapter
from atlas.hookspecs import hookimpl
from atlas_synthesis.instrument import synthesis
from atlas_synthesis.manual import Manual

__all__ = ["atlas_instruments", "atlas_synthesis_adapters"]


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the synthesis step."""
    return {"synthesis": synthesis}


@hookimpl
def atlas_synthesis_adapters() -> Mapping[str, SynthesisAdapter]:
    """Offer the ways to a model."""
    return {"manual": Manual()}
