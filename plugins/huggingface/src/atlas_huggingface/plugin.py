"""What this distribution offers; torch and transformers are imported only when a target is opened."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.contracts import LossTerm, StimulusSource, TargetSource
from atlas.hookspecs import hookimpl
from atlas_huggingface.label import LABEL
from atlas_huggingface.masked_token import MASKED_TOKEN
from atlas_huggingface.next_token import NEXT_TOKEN
from atlas_huggingface.source import HuggingFaceSource
from atlas_huggingface.stimuli import FileSource, TextSource

__all__ = ["atlas_loss_terms", "atlas_stimuli", "atlas_targets"]


@hookimpl
def atlas_targets() -> Mapping[str, TargetSource]:
    """Offer `hf`."""
    return {"hf": HuggingFaceSource()}


@hookimpl
def atlas_loss_terms() -> Mapping[str, LossTerm]:
    """Offer `next-token`, `masked-token` and `label`."""
    return {term.name: term for term in (NEXT_TOKEN, MASKED_TOKEN, LABEL)}


@hookimpl
def atlas_stimuli() -> Mapping[str, StimulusSource]:
    """Offer `text` and `file`."""
    return {"text": TextSource(), "file": FileSource()}
