"""The loss term `label`: cross-entropy of a text's class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from atlas.contracts import LossTerm
from atlas_huggingface.next_token import NOT_SCORED

if TYPE_CHECKING:
    import torch

__all__ = ["LABEL", "ClassifierOutputs", "label"]


@frozen
class ClassifierOutputs:
    """What a loss term of slot `sequence-classification` reads.

    Attributes:
        logits: Scores of the classes, `[B, C]`, in the model's dtype.
        targets: The class of each text, `[B]`.
    """

    logits: torch.Tensor
    targets: torch.Tensor


def label(outputs: ClassifierOutputs) -> torch.Tensor:
    """Return the cross-entropy summed over texts, a scalar in nats, in float32 or wider."""
    from atlas_huggingface.cross_entropy import cross_entropy_sum

    return cross_entropy_sum(outputs.logits, outputs.targets, ignore_index=NOT_SCORED)


LABEL = LossTerm(
    name="label",
    slot="sequence-classification",
    function=label,
    default_weight=1.0,
    group="model",
    formula=r"-\sum_i \log p(y_i \mid x_i)",
    source="Bishop 2006, Pattern Recognition and Machine Learning, equation 4.108",
)
