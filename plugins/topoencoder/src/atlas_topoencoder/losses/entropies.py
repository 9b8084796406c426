"""Entropies of charts and codes: how sharply examples choose, and how evenly the choices fall.

Shapes: `B` examples, `N_c` charts, `K` codes of a chart. All entropies are in nats.
"""

from __future__ import annotations

import math

import torch

__all__ = [
    "code_usage",
    "conditional_entropy",
    "divergence",
    "entropy",
    "evenness_gap",
    "information_gap",
    "largest_excess",
    "per_chart_gaps",
]

_SMALLEST = 1e-30


def entropy(p: torch.Tensor) -> torch.Tensor:
    """Return the entropy of distributions over the last dimension, `[...]`; 0 log 0 is 0, with gradient 0."""
    found: torch.Tensor = torch.special.entr(p.clamp_min(_SMALLEST)).sum(-1)
    return found


def conditional_entropy(p: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
    """Return the mean entropy of distributions `[B, N_c]` with their logarithms, H(K|X)."""
    return (p * log_p).sum() / -p.shape[0]


def evenness_gap(p: torch.Tensor) -> torch.Tensor:
    """Return what the entropy of one distribution `[N]` lacks of log N: its divergence from the uniform."""
    return math.log(p.shape[-1]) - entropy(p)


def largest_excess(p: torch.Tensor) -> torch.Tensor:
    """Return how far the largest share of a distribution `[N]` exceeds 1/N."""
    return p.max(-1).values - 1 / p.shape[-1]


def information_gap(p: torch.Tensor, log_p: torch.Tensor, least: float) -> torch.Tensor:
    """Return what the mutual information I(X; K) of distributions `[B, N_c]` lacks of `least`, or 0."""
    return (least - entropy(p.mean(0)) + conditional_entropy(p, log_p)).relu()


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Return the mean of KL(p | q) over examples, from logarithms `[B, N]`."""
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def code_usage(weights: torch.Tensor, soft_codes: torch.Tensor) -> torch.Tensor:
    """Return each chart's share of soft codes by its weight, `[N_c, K]`, rows summing to its mean weight.

    Args:
        weights: `[B, N_c]`.
        soft_codes: `[B, N_c, K]`, summing to 1 over K.
    """
    return (weights.unsqueeze(-1) * soft_codes).mean(0)


def per_chart_gaps(usage: torch.Tensor) -> torch.Tensor:
    """Return what the entropy of each chart's codes lacks of log K, `[N_c]`; usage as in `code_usage`."""
    return evenness_gap(usage / usage.sum(-1, keepdim=True).clamp_min(_SMALLEST))
