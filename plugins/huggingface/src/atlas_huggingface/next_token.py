"""The loss term `next-token`: cross-entropy of each token given those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from atlas.contracts import LossTerm

if TYPE_CHECKING:
    import torch

__all__ = ["NEXT_TOKEN", "NOT_SCORED", "CausalLMOutputs", "next_token"]

NOT_SCORED = -100
"""Target at a position that no loss term counts."""


@frozen
class CausalLMOutputs:
    """What a loss term of slot `causal-lm` reads.

    Attributes:
        logits: Scores of the next token at P positions, `[B, P, V]`, in the model's dtype.
        targets: The next token, `[B, P]`, or `NOT_SCORED`.
    """

    logits: torch.Tensor
    targets: torch.Tensor


def next_token(outputs: CausalLMOutputs) -> torch.Tensor:
    """Return the cross-entropy summed over scored tokens, a scalar in nats, in float32 or wider."""
    from atlas_huggingface.cross_entropy import cross_entropy_sum

    return cross_entropy_sum(outputs.logits, outputs.targets, ignore_index=NOT_SCORED)


NEXT_TOKEN = LossTerm(
    name="next-token",
    slot="causal-lm",
    function=next_token,
    default_weight=1.0,
    group="model",
    formula=r"-\sum_{t \ge 2} \log p(x_t \mid x_{<t})",
    source="Bengio et al. 2003, A Neural Probabilistic Language Model, section 2",
)
