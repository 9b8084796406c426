"""The loss term `masked-token`: cross-entropy of the tokens behind a mask, given all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from atlas.contracts import LossTerm
from atlas_huggingface.next_token import NOT_SCORED

if TYPE_CHECKING:
    import torch

__all__ = ["MASKED_TOKEN", "MaskedLMOutputs", "masked_token"]


@frozen
class MaskedLMOutputs:
    """What a loss term of slot `masked-lm` reads.

    Attributes:
        logits: Scores of the token at each position, `[B, T, V]`, in the model's dtype.
        targets: The token behind the mask, `[B, T]`, or `NOT_SCORED` where nothing is masked.
    """

    logits: torch.Tensor
    targets: torch.Tensor


def masked_token(outputs: MaskedLMOutputs) -> torch.Tensor:
    """Return the cross-entropy summed over masked tokens, a scalar in nats, in float32 or wider."""
    from atlas_huggingface.cross_entropy import cross_entropy_sum

    return cross_entropy_sum(outputs.logits, outputs.targets, ignore_index=NOT_SCORED)


MASKED_TOKEN = LossTerm(
    name="masked-token",
    slot="masked-lm",
    function=masked_token,
    default_weight=1.0,
    group="model",
    formula=r"-\sum_{t \in M} \log p(x_t \mid x_{\setminus M})",
    source="Devlin et al. 2019, BERT, section 3.1, task 1",
)
