"""Charts that agree with labels: how well they tell the class, and how they share it.

A chart's classes are the softmax of its row of a learned table, `[N_c, C]`.
"""

from __future__ import annotations

import torch

from atlas_topoencoder.losses.entropies import entropy

__all__ = ["chart_impurity", "class_overlap", "class_surprise"]

_SMALLEST = 1e-12


def class_surprise(weights: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log p(y|x), `p(y|x) = sum_k w_k P_k(y)`.

    Args:
        weights: `[B, N_c]`.
        classes: Distribution of classes of each chart, `[N_c, C]`.
        labels: `[B]`.
    """
    likelihood = (weights @ classes).gather(1, labels[:, None])
    return -likelihood.clamp_min(_SMALLEST).log().mean()


def chart_impurity(weights: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the entropy of charts' classes, averaged by their mean weights."""
    return (weights.mean(0) * entropy(classes)).sum()


def class_overlap(weights: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """Return how much examples of different classes share charts, averaged over such pairs.

    With the overlap `o = w . w'`, a pair counts `o relu(margin - 1 + o)^2`. A batch of one class gives 0.
    """
    overlap = weights @ weights.mT
    differ = (labels[:, None] != labels[None, :]).to(overlap.dtype)
    return (differ * overlap * (margin - 1 + overlap).relu().square()).sum() / differ.sum().clamp_min(1)
