"""The hooks of the synthesis plugin."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.contracts import Instrument, SynthesisAdapter
from atlas.hookspecs import hookimpl
from atlas_synthesis.instrument import synthesis
from atlas_synthesis.local import Local
from atlas_synthesis.manual import Manual
from atlas_synthesis.replay import Replay
from atlas_synthesis.servers import AnthropicServer, OpenAIServer

__all__ = ["atlas_instruments", "atlas_synthesis_adapters"]


@hookimpl
def atlas_instruments() -> Mapping[str, Instrument]:
    """Offer the synthesis step."""
    return {"synthesis": synthesis}


@hookimpl
def atlas_synthesis_adapters() -> Mapping[str, SynthesisAdapter]:
    """Offer the ways to a model; clients are imported when a package is submitted."""
    return {
        "manual": Manual(),
        "openai": OpenAIServer(),
        "anthropic": AnthropicServer(),
        "local": Local(),
        "replay": Replay(),
    }
