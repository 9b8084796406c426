"""Covariant cross-attention: what a point of the ball learns from tokens placed at other points.

A token lies at a point and carries vectors, in the orthonormal frame there, and scalars. Before anything
is compared, its vectors are carried parallel along the geodesic to the point that asks, and its place
becomes the vector that points to it. What is learned mixes whole vectors and mixes scalars, and never
touches a coordinate: scores are inner products, outputs are sums of vectors weighted by functions of
invariants. An isometry of the ball that moves the point, the tokens and the origin therefore turns the
output along, whatever the weights are.

Two ingredients of seed 002, section 4, single a point out: the temperature, which falls with the conformal
factor, and the geodesic terms of the query, which are made of the position. Both are functions of the
point called the origin, an argument here: moved along with the rest it breaks nothing, and held at zero it
leaves the rotations about it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from atlas_topoencoder.geometry import chord, gyration, logmap0_difference, mobius_difference
from torch import nn
from torch.nn import functional

from atlas.randomness import RandomStreams

__all__ = [
    "CovariantAttention",
    "CovariantHead",
    "GeodesicQuery",
    "Sizes",
    "Tokens",
    "conformal_factor_about",
    "draw_attention",
    "origin_vector",
    "see",
]


class Tokens(NamedTuple):
    """What lies where.

    Attributes:
        points: `[..., T, D]`, in the ball.
        vectors: In the orthonormal frame of each point, `[..., T, C, D]`.
        scalars: `[..., T, S]`.
    """

    points: torch.Tensor
    vectors: torch.Tensor
    scalars: torch.Tensor


class Sizes(NamedTuple):
    """How much a head sees and keeps.

    Attributes:
        latent: Dimensions of the ball, D.
        site_vectors: Vectors at the point that asks, the origin's not counted.
        site_scalars: Scalars there.
        token_vectors: Vectors of a token, its direction not counted, C.
        token_scalars: Scalars of a token, S.
        heads: Attention heads.
        channels: Vectors and scalars of a head's keys and of its values, each.
        rank: Products of vectors in the query.
        hidden: Width of the network of invariants.
    """

    latent: int
    site_vectors: int
    site_scalars: int
    token_vectors: int
    token_scalars: int
    heads: int = 4
    channels: int = 3
    rank: int = 4
    hidden: int = 64


def conformal_factor_about(origin: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return `2 cosh(d / 2)^2`, d the distance from the origin, `[..., 1]`; of zero, `lambda(z)`."""
    return 2 * (1 + chord(origin, z).unsqueeze(-1))


def origin_vector(origin: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return the vector at z that points away from the origin, of length `tanh(d / 2)`: z itself for zero."""
    return -mobius_difference(z, origin.expand_as(z))


def see(z: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """Return the direction and the vectors of tokens in the orthonormal frame at z, `[B, T, 1 + C, D]`.

    The first is the logarithm of the token's point, of the length of its distance. Parallel transport
    along the geodesic is a gyration of orthonormal components.
    """
    at = z.unsqueeze(-2)
    direction = 2 * logmap0_difference(at, tokens.points)
    carried = gyration(at.unsqueeze(-2), -tokens.points.unsqueeze(-2), tokens.vectors)
    return torch.cat((direction.unsqueeze(-2), carried), -2)


def _mixing(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape))


class GeodesicQuery(nn.Module):
    """A query of vectors `[B, C, D]`: linear terms, and products `(a . b) c` of low rank.

    With the origin's vector z and a velocity v among the vectors, rank 2 holds the Christoffel term
    `2 (z . v) v - |v|^2 z` exactly, for which a full tensor would take `D^2` numbers a component.
    """

    def __init__(self, vectors: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.linear = _mixing(outputs, vectors)
        self.first, self.second, self.third = (_mixing(rank, vectors) for _ in range(3))
        self.products = _mixing(outputs, rank)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return `[B, outputs, D]`."""
        inner = ((self.first @ vectors) * (self.second @ vectors)).sum(-1, keepdim=True)
        query: torch.Tensor = self.linear @ vectors + self.products @ (inner * (self.third @ vectors))
        return query


class CovariantAttention(nn.Module):
    """Attention of a point over tokens, at the temperature `sqrt(d_k) / lambda`.

    The score of a token is the product of query and key vectors and scalars, less the distance times a
    learned slope, over the temperature; d_k counts the numbers of a key. Source: seed 002, sections 4.A, 4.D.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.channels = sizes.heads, sizes.channels
        width, seen = sizes.heads * sizes.channels, sizes.token_vectors + 1
        self.query = GeodesicQuery(sizes.site_vectors + 1, width, sizes.rank)
        self.key, self.value = _mixing(width, seen), _mixing(width, seen)
        self.scalar_query = _mixing(width, sizes.site_scalars)
        self.scalar_key = _mixing(width, sizes.token_scalars)
        self.scalar_value = _mixing(width, sizes.token_scalars)
        self.slope = nn.Parameter(torch.zeros(sizes.heads))
        self.numbers = sizes.channels * (sizes.latent + 1)

    def forward(
        self,
        factor: torch.Tensor,
        site_vectors: torch.Tensor,
        site_scalars: torch.Tensor,
        seen: torch.Tensor,
        token_scalars: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vectors `[B, heads * channels, D]` and scalars `[B, heads * channels]` of the tokens.

        Args:
            factor: Conformal factor at the point, `[B, 1]`.
            site_vectors: There, the origin's among them, `[B, C, D]`.
            site_scalars: There, `[B, S]`.
            seen: Of `see`, `[B, T, 1 + C', D]`.
            token_scalars: `[B, T, S']`.
        """
        heads = (self.heads, -1)
        vectors = torch.unflatten(self.key @ seen, -2, heads).flatten(-2)  # [B, T, h, channels * D]
        query = torch.unflatten(self.query(site_vectors), -2, heads).flatten(-2)
        scores = torch.einsum("bhx,bthx->bht", query, vectors)
        by_scalar = torch.unflatten(functional.linear(token_scalars, self.scalar_key), -1, heads)
        asked = torch.unflatten(functional.linear(site_scalars, self.scalar_query), -1, heads)
        scores = scores + torch.einsum("bhx,bthx->bht", asked, by_scalar)
        far = seen[..., 0, :].square().sum(-1).clamp_min(1e-12).sqrt()
        scores = scores - functional.softplus(self.slope)[:, None] * far.unsqueeze(1)
        shares = (scores * (factor / math.sqrt(self.numbers)).unsqueeze(-1)).softmax(-1)
        values = torch.unflatten(self.value @ seen, -2, heads)
        scalars = torch.unflatten(functional.linear(token_scalars, self.scalar_value), -1, heads)
        return (
            torch.einsum("bht,bthcd->bhcd", shares, values).flatten(1, 2),
            torch.einsum("bht,bthc->bhc", shares, scalars).flatten(1),
        )


class CovariantHead(nn.Module):
    """Vectors and scalars at a point, from attention and a network of invariants.

    All inner products of the point's vectors and the attended ones, with all scalars, go through a network
    that returns the scalars, and for each vector the weights of the sum that it is. The last layer begins
    at zero: an untrained head says nothing.
    """

    def __init__(self, sizes: Sizes, *, vectors: int, scalars: int) -> None:
        super().__init__()
        self.attention = CovariantAttention(sizes)
        width = sizes.heads * sizes.channels
        summed = sizes.site_vectors + 1 + width
        self.register_buffer("pairs", torch.triu_indices(summed, summed), persistent=False)
        self.pairs: torch.Tensor
        invariants = self.pairs.shape[1] + sizes.site_scalars + width
        self.network = nn.Sequential(
            nn.Linear(invariants, sizes.hidden),
            nn.SiLU(),
            nn.Linear(sizes.hidden, sizes.hidden),
            nn.SiLU(),
            nn.Linear(sizes.hidden, vectors * summed + scalars),
        )
        self.vectors, self.scalars, self.summed = vectors, scalars, summed

    def forward(
        self,
        z: torch.Tensor,
        origin: torch.Tensor,
        vectors: torch.Tensor,
        scalars: torch.Tensor,
        seen: torch.Tensor,
        token_scalars: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return vectors `[B, V, D]` in the orthonormal frame at z, and scalars `[B, S]`.

        Args:
            z: Points that ask, `[B, D]`.
            origin: The point that temperature and geodesic terms refer to, `[D]`.
            vectors: At z, `[B, C, D]`.
            scalars: At z, `[B, S]`.
            seen: Of `see` from z.
            token_scalars: `[B, T, S']`.
        """
        here = torch.cat((origin_vector(origin, z).unsqueeze(-2), vectors), -2)
        factor = conformal_factor_about(origin, z)
        attended, heard = self.attention(factor, here, scalars, seen, token_scalars)
        summed = torch.cat((here, attended), -2)
        inner = (summed @ summed.mT)[:, self.pairs[0], self.pairs[1]]
        known = torch.cat((inner.asinh(), scalars, heard), -1)
        weights, said = self.network(known).split([self.vectors * self.summed, self.scalars], -1)
        return torch.unflatten(weights, -1, (self.vectors, self.summed)) @ summed, said


@torch.no_grad()
def draw_attention(module: nn.Module, random: RandomStreams) -> None:
    """Draw every matrix below a module in place, normal over the root of its inputs.

    Offsets begin at zero, and so does all that heads say.
    """
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            parameter.zero_()
            continue
        drawn = random.generator("initial weights", name=name).standard_normal(tuple(parameter.shape))
        scaled = drawn / math.sqrt(parameter.shape[-1])
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(scaled)))
    for part in module.modules():
        if isinstance(part, CovariantHead):
            last = part.network[-1]
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.zero_()
