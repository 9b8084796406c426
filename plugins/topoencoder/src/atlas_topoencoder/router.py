"""Routers: which chart a point belongs to, and how much of each."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.points import Point, exp0, pairwise_distance

__all__ = ["AttentionRouter", "Centers", "CovariantRouter", "Router", "Routing", "make_router"]

_CORRECTION = 0.1
"""Weight of the feature score beside the distance score (seed 002, section 0.1)."""


class Centers(NamedTuple):
    """The centres of a router's charts, the same for all that is routed in a step.

    Attributes:
        points: `[N_c, D]`.
        keys: What queries meet, `[N_c, D]`; None where centres have none.
    """

    points: Point
    keys: torch.Tensor | None


class Routing(NamedTuple):
    """The routing of a batch.

    Attributes:
        scores: Before the softmax, `[B, N_c]`.
        log_probabilities: Logarithms of their softmax, `[B, N_c]`.
        probabilities: Their softmax, `[B, N_c]`.
        weights: What blends the charts, `[B, N_c]`: the probabilities, or one-hot.
        chart: Of the greatest score, `[B]` int64.
    """

    scores: torch.Tensor
    log_probabilities: torch.Tensor
    probabilities: torch.Tensor
    weights: torch.Tensor
    chart: torch.Tensor


def _blend(scores: torch.Tensor, routing: str) -> Routing:
    log_probabilities = scores.log_softmax(-1)
    probabilities = log_probabilities.exp()
    chart = scores.argmax(-1)
    if routing == "soft":
        return Routing(scores, log_probabilities, probabilities, probabilities, chart)
    weights = functional.one_hot(chart, scores.shape[-1]).to(scores.dtype)
    if routing == "straight-through":
        weights = weights + (probabilities - probabilities.detach())
    return Routing(scores, log_probabilities, probabilities, weights, chart)


class CovariantRouter(nn.Module):
    """Scores charts by hyperbolic distance at a conformal temperature, corrected by features.

    The score of chart k at z is `-d(z, c_k) / tau + 0.1 key_k.q / tau`, with `tau = sqrt(A) (1 - |z|^2) /
    2` for keys of A dimensions, `q = W_z z + W_f f + Gamma(z, z)` with a learned quadratic form, and keys
    `W_c c_k / lambda(z)` transported from the origin to z. As `lambda tau = sqrt(A)`, the second part is
    `0.1 (W_c c_k).q / sqrt(A)`, which needs neither. Without features their part is left out, as in a
    decoder. Source: seed 002, section 0.1.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        latent = architecture.latent
        self.routing = architecture.routing
        self.centers_tangent = nn.Parameter(torch.empty(architecture.charts, latent))
        self.position_query = nn.Linear(latent, latent)
        self.quadratic_query = nn.Linear(latent * latent, latent, bias=False)
        self.feature_query = nn.Linear(architecture.hidden, latent, bias=False)
        self.center_key = nn.Linear(latent, latent, bias=False)

    def centers(self) -> Centers:
        """Return the centres with the keys of the features' score."""
        return Centers(exp0(self.centers_tangent), self.center_key(self.centers_tangent))

    def forward(self, at: Point, centers: Centers, features: torch.Tensor | None = None) -> Routing:
        """Route `[B, D]` among centres, with the features `[B, H]` where there are any."""
        z = at.z
        root = math.sqrt(z.shape[-1])
        quadratic = (z.unsqueeze(-1) * z.unsqueeze(-2)).flatten(1)
        query = torch.addmm(self.position_query(z), quadratic, self.quadratic_query.weight.mT)
        if features is not None:
            query = torch.addmm(query, features, self.feature_query.weight.mT)
        distances = pairwise_distance(at, centers.points)
        by_distance = distances / (at.complement * (-root / 2))
        assert centers.keys is not None  # its own have them
        scores = torch.addmm(by_distance, query, centers.keys.mT, alpha=_CORRECTION / root)
        return _blend(scores, self.routing)


class AttentionRouter(nn.Module):
    """Scores charts by the product of learned queries with the normalised key of an example.

    The score is `query_k . LayerNorm(W f) / sqrt(D)`; a decoder, which has no features, has a key of its
    own from the point. Source: seed 002, section 1, "cross-attention routing".
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        latent = architecture.latent
        self.routing = architecture.routing
        self.centers_tangent = nn.Parameter(torch.empty(architecture.charts, latent))
        self.queries = nn.Parameter(torch.empty(architecture.charts, latent))
        self.feature_key = nn.Linear(architecture.hidden, latent)
        self.position_key = nn.Linear(latent, latent)
        self.norm = nn.LayerNorm(latent)

    def centers(self) -> Centers:
        """Return the centres, which have no keys."""
        return Centers(exp0(self.centers_tangent), None)

    def forward(self, at: Point, centers: Centers, features: torch.Tensor | None = None) -> Routing:
        """Route `[B, D]`, by the features `[B, H]` where there are any; the centres are not read."""
        key = self.norm(self.position_key(at.z) if features is None else self.feature_key(features))
        return _blend(key @ self.queries.mT / math.sqrt(key.shape[-1]), self.routing)


Router = CovariantRouter | AttentionRouter


def make_router(architecture: Architecture) -> Router:
    """Return the router that the architecture names, its weights not drawn yet."""
    if architecture.router == "attention":
        return AttentionRouter(architecture)
    return CovariantRouter(architecture)
