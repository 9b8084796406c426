"""Moments of a batch: variances, covariances and Gaussian priors of latent coordinates.

Rows are examples. Where a batch of one has no second moment, a term is 0 with a graph.
"""

from __future__ import annotations

import math

import torch

__all__ = [
    "alignment",
    "between_share",
    "covariance_excess",
    "gaussian_divergence",
    "gram_excess",
    "log_singular_variance",
    "share_covariance",
    "spread_gap",
    "total_variance_gap",
]

_VARIANCE = 1e-4


def total_variance_gap(z: torch.Tensor, least: float) -> torch.Tensor:
    """Return what the total variance of `[B, D]` lacks of `least` for each dimension, or 0."""
    centred = z - z.mean(0)
    return (least * z.shape[1] - centred.square().sum(1).mean()).relu()


def spread_gap(z: torch.Tensor, least: float) -> torch.Tensor:
    """Return the mean over dimensions of what the standard deviation lacks of `least`.

    Bardes et al. 2022, "VICReg", eq. 1.
    """
    return (least - (z.var(0, correction=0) + _VARIANCE).sqrt()).relu().mean()


def covariance_excess(z: torch.Tensor) -> torch.Tensor:
    """Return the squared covariances between dimensions of `[B, D]`, summed and divided by D.

    Bardes et al. 2022, "VICReg", eq. 3.
    """
    centred = z - z.mean(0)
    covariance = centred.mT @ centred / max(1, len(z) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


def gaussian_divergence(z: torch.Tensor) -> torch.Tensor:
    """Return KL(N(m, s^2) | N(0, 1)) of each dimension's mean and variance over `[B, D]`, averaged, in nats.

    The encoder is deterministic, so that the aggregate of the batch stands for the posterior.
    """
    variance = z.var(0, correction=0) + _VARIANCE
    return (z.mean(0).square() + variance - 1 - variance.log()).mean() / 2


def share_covariance(weights: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """Return the summed squared covariances of weights `[B, N_c]` with norms `[B]`."""
    centred = weights - weights.mean(0)
    return (centred.mT @ (norms - norms.mean()) / len(norms)).square().sum()


def alignment(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the mean squared cosine of rows of `[B, D]`; short vectors count as nearly orthogonal."""
    inner = (a * b).sum(1).square()
    return (inner / (a.square().sum(1) * b.square().sum(1) + _VARIANCE**2)).mean()


def between_share(z: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return which share of the variance of `[B, D]` lies between the groups of weights `[B, N_c]`.

    0 where all groups have one mean, 1 where each example is its group's mean: the correlation ratio, whose
    groups are weighted. What has none tells a linear reader nothing of its group.
    """
    centred = z - z.mean(0)
    mass = weights.sum(0).clamp_min(_VARIANCE)
    between = ((weights.mT @ centred).square().sum(1) / mass).sum()
    return between / (centred.square().sum() + _VARIANCE)


def _gram(weight: torch.Tensor) -> torch.Tensor:
    """Return the smaller Gram matrix of `[m, n]`, whose eigenvalues are the squared singular values."""
    return weight @ weight.mT if weight.shape[0] < weight.shape[1] else weight.mT @ weight


def gram_excess(weight: torch.Tensor) -> torch.Tensor:
    """Return the squared Frobenius distance of a matrix's smaller Gram matrix from I, for each row of it."""
    gram = _gram(weight)
    size = gram.shape[0]
    excess: torch.Tensor = gram.square().sum() - 2 * gram.diagonal().sum() + size
    return excess / size


def log_singular_variance(weight: torch.Tensor) -> torch.Tensor:
    """Return the variance of the logarithms of a matrix's singular values."""
    values = torch.linalg.eigvalsh(_gram(weight)).clamp_min(math.exp(-20))
    scatter: torch.Tensor = (values.log() / 2).var(correction=0)
    return scatter
