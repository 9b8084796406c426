"""The decoder: from a point of the ball, and texture, back to an example."""

from __future__ import annotations

import math

import torch
from torch import nn

from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.geometry import logmap0
from atlas_topoencoder.outputs import Decoding
from atlas_topoencoder.points import point
from atlas_topoencoder.router import Centers, Router, Routing
from atlas_topoencoder.spectral import NormGatedGELU, SpectralLinear

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """Projects a point by every chart, blends, renders, and adds the texture.

    `h_k = gate(A_k log0(z_geo))`, `h = sum_k w_k h_k`, `base = render(h) + skip(h)`, and
    `texture = alpha W tanh(z_tex)` with a learned scale. The projectors read the logarithm and not the
    point, in whose coordinates everything beyond radius 4 is one. Source: seed 002, section 0.3.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        latent, hidden, bound = architecture.latent, architecture.hidden, architecture.lipschitz
        self.shape = architecture.shape
        outputs = math.prod(self.shape)
        self.project = SpectralLinear(latent, hidden, stack=architecture.charts, bound=bound)
        self.gate = NormGatedGELU(hidden)
        self.render = nn.Sequential(
            SpectralLinear(hidden, hidden, bound=bound),
            NormGatedGELU(hidden),
            SpectralLinear(hidden, outputs, bound=bound),
        )
        self.skip = SpectralLinear(hidden, outputs, bound=bound)
        self.texture = (
            SpectralLinear(latent, outputs, bias=False, bound=bound) if architecture.texture else None
        )
        self.texture_scale = nn.Parameter(torch.tensor(1.0)) if architecture.texture else None

    def forward(
        self,
        router: Router,
        centers: Centers,
        z_geo: torch.Tensor,
        z_tex: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
    ) -> Decoding:
        """Decode `[B, D]`; routed by `router` and its centres where no `weights` `[B, N_c]` are given."""
        if weights is None:
            routing: Routing = router(point(z_geo), centers)
            scores, log_probabilities = routing.scores, routing.log_probabilities
            probabilities, weights = routing.probabilities, routing.weights
        else:
            scores, probabilities, log_probabilities = None, weights, weights.clamp_min(1e-30).log()
        hidden = self.gate.blended(self.project(logmap0(z_geo)), weights)
        base = (self.render(hidden) + self.skip(hidden)).unflatten(1, self.shape)
        texture = None
        if z_tex is not None and self.texture is not None:
            texture = (self.texture(z_tex.tanh()) * self.texture_scale).unflatten(1, self.shape)
        return Decoding(
            reconstruction=base if texture is None else base + texture,
            scores=scores,
            log_probabilities=log_probabilities,
            probabilities=probabilities,
            weights=weights,
            base=base,
            texture=texture,
        )
