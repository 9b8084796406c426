"""The TopoEncoder: an autoencoder through an atlas of charts on the Poincaré ball."""

from __future__ import annotations

import torch
from torch import nn

from atlas.randomness import RandomStreams
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.decoder import Decoder
from atlas_topoencoder.extractors import make_extractor
from atlas_topoencoder.geometry import expmap0, project
from atlas_topoencoder.jump import FactorizedJumpOperator
from atlas_topoencoder.outputs import Decoding, Encoding
from atlas_topoencoder.points import Point, exp0, log0_difference, minus, plus, point
from atlas_topoencoder.quantiser import Codebook, StructureFilter, straight_through
from atlas_topoencoder.router import Centers, Router, make_router
from atlas_topoencoder.spectral import SpectralLinear, refresh_spectral
from atlas_topoencoder.weights import draw_weights

__all__ = ["TopoEncoder", "compose"]


def compose(c_bar: torch.Tensor, z_q: torch.Tensor, z_n: torch.Tensor, max_radius: float) -> torch.Tensor:
    """Return `z_geo = c_bar + (z_q + exp0(z_n))`, Möbius sums, within the radius, `[B, D]`.

    A pure function, so that a caller decides which of the three carries a gradient.

    Args:
        c_bar: Barycentre of the charts, `[B, D]`, in the ball.
        z_q: Code, straight-through or live, `[B, D]`, in the ball.
        z_n: Nuisance, `[B, D]`, tangent.
        max_radius: Of the result.
    """
    return _compose(point(c_bar), point(z_q), z_n, max_radius)


def _compose(c_bar: Point, z_q: Point, z_n: torch.Tensor, max_radius: float) -> torch.Tensor:
    return project(plus(c_bar, plus(z_q, exp0(z_n))).z, max_radius)


def _joined(charts: Point, blend: Point) -> Point:
    """Return the codes of the charts `[B, N_c, D]` and their blend `[B, D]` as `[B, N_c + 1, D]`."""
    last = blend.at(1)
    return Point(torch.cat((charts.z, last.z), 1), torch.cat((charts.complement, last.complement), 1))


class TopoEncoder(nn.Module):
    """Encodes examples to a chart, a code, a nuisance and a texture, and decodes them.

    After each step of an optimiser call `refresh()`, or let `follow(optimizer)` do it: it keeps the
    spectral bounds, and centres and codes within the radius.

    Args:
        architecture: Sizes and choices.
        random: Streams that the initial weights are drawn from.
    """

    def __init__(self, architecture: Architecture, random: RandomStreams) -> None:
        super().__init__()
        self.architecture = architecture
        hidden, latent = architecture.hidden, architecture.latent
        self.extractor = make_extractor(architecture)
        self.value = nn.Linear(hidden, latent)
        self.detail = nn.Linear(hidden, latent) if architecture.detail else None
        self.router = make_router(architecture)
        self.own_decoder_router = None if architecture.shared_router else make_router(architecture)
        self.quantiser = Codebook(architecture)
        self.structure_filter = StructureFilter(architecture)
        self.decoder = Decoder(architecture)
        self.jump = FactorizedJumpOperator(architecture.charts, latent)
        self._spectral = [module for module in self.modules() if isinstance(module, SpectralLinear)]
        draw_weights(self, random)
        refresh_spectral(self._spectral, iterations=20)

    @property
    def codebook(self) -> torch.Tensor:
        """The codes as points of the ball, `[N_c, K, D]`."""
        return expmap0(self.quantiser.tangent)

    @property
    def decoder_router(self) -> Router:
        """The decoder's router; the encoder's where it is shared."""
        return self.router if self.own_decoder_router is None else self.own_decoder_router

    def forward(self, x: torch.Tensor) -> tuple[Encoding, Decoding]:
        """Encode and decode examples `[B, *shape]`."""
        centers = self.router.centers()
        encoding = self._encode(x, centers)
        if self.own_decoder_router is not None:
            centers = self.own_decoder_router.centers()
        return encoding, self._decode(encoding.z_geo, encoding.z_tex, None, centers)

    def encode(self, x: torch.Tensor) -> Encoding:
        """Encode examples `[B, *shape]`. Source: seed 002, section 0.2."""
        return self._encode(x, self.router.centers())

    def _encode(self, x: torch.Tensor, centers: Centers) -> Encoding:
        radius = self.architecture.max_radius
        features = self.extractor(x)
        v = exp0(self.value(features), radius)
        routing = self.router(v, centers, features)
        weights = routing.weights
        centers_tangent = self.router.centers_tangent
        c_bar = exp0(weights @ centers_tangent)
        local = minus(c_bar, v)
        quantised = self.quantiser(local)
        row = weights.unsqueeze(1)
        z_q = exp0(torch.bmm(row, quantised.z_q_tangent).squeeze(1))
        residuals = log0_difference(_joined(quantised.z_q, z_q).detach(), local.at(1))
        residual_charts, residual = torch.split(residuals, [weights.shape[1], 1], 1)
        z_n_charts = self.structure_filter(residual_charts)
        z_n = torch.bmm(row, z_n_charts).squeeze(1)
        z_tex = residual.squeeze(1) - z_n
        if self.detail is not None:
            z_tex = z_tex + self.detail(features)
        z_q_st = straight_through(local, z_q)
        return Encoding(
            features=features,
            v=v.z,
            scores=routing.scores,
            log_probabilities=routing.log_probabilities,
            probabilities=routing.probabilities,
            weights=weights,
            chart=routing.chart,
            centers=centers.points.z,
            centers_tangent=centers_tangent,
            c_bar=c_bar.z,
            local=local.z,
            code_chords=quantised.chords,
            metric_sq_distances=quantised.metric_sq_distances,
            codebook=quantised.points,
            codebook_tangent=self.quantiser.tangent,
            codes=quantised.codes,
            z_q_charts=quantised.z_q.z,
            z_q=z_q.z,
            z_q_st=z_q_st.z,
            residual_charts=residual_charts,
            z_n_charts=z_n_charts,
            z_n=z_n,
            z_tex=z_tex,
            z_geo=_compose(c_bar, z_q_st, z_n, radius),
        )

    def decode(
        self, z_geo: torch.Tensor, z_tex: torch.Tensor | None = None, weights: torch.Tensor | None = None
    ) -> Decoding:
        """Decode points `[B, D]` of the ball.

        Args:
            z_geo: The points.
            z_tex: Texture, `[B, D]`; left out where None.
            weights: Of the charts, `[B, N_c]`; the router's where None.
        """
        return self._decode(z_geo, z_tex, weights, self.decoder_router.centers())

    def _decode(
        self, z_geo: torch.Tensor, z_tex: torch.Tensor | None, weights: torch.Tensor | None, centers: Centers
    ) -> Decoding:
        decoding: Decoding = self.decoder(self.decoder_router, centers, z_geo, z_tex, weights)
        return decoding

    def decode_codes(self, chart: torch.Tensor, code: torch.Tensor) -> Decoding:
        """Decode symbols alone: the code's point in its chart, without nuisance and texture.

        Args:
            chart: `[B]` int64.
            code: `[B]` int64.
        """
        c_bar = expmap0(self.router.centers_tangent[chart])
        z_q = expmap0(self.quantiser.tangent[chart, code])
        return self.decode(compose(c_bar, z_q, torch.zeros_like(z_q), self.architecture.max_radius))

    def decode_symbols(self, encoding: Encoding) -> torch.Tensor:
        """Reconstruct from the chart and the code of each example alone, `[B, *shape]`."""
        return self.decode_codes(encoding.chart, encoding.code).reconstruction

    def encoder_weights(self) -> list[torch.Tensor]:
        """The matrices between an example and its latent point, each `[outputs, inputs]`."""
        weights = [parameter.flatten(1) for parameter in self.extractor.parameters() if parameter.ndim > 1]
        return [*weights, self.value.weight]

    def spectral_layers(self) -> list[SpectralLinear]:
        """The layers whose spectral norm is bounded."""
        return list(self._spectral)

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the parameters back within their bounds, after a step of an optimiser."""
        refresh_spectral(self._spectral)
        bound = self.architecture.max_radius / 2
        for tangent in (
            self.router.centers_tangent,
            self.decoder_router.centers_tangent,
            self.quantiser.tangent,
        ):
            flat = tangent.view(-1, tangent.shape[-1])
            flat.copy_(torch.renorm(flat, 2, 0, bound))

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Refresh after every step of the optimiser."""
        optimizer.register_step_post_hook(lambda *_: self.refresh())

    def routing_parameters(self) -> list[nn.Parameter]:
        """Parameters of the routers, for a learning rate of their own."""
        routers = {self.router, self.decoder_router}
        return [parameter for router in routers for parameter in router.parameters()]
