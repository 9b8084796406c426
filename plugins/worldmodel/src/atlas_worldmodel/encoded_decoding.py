"""Frames decoded from points that no frame was encoded to: by the nearest codes, as the encoder's own are.

A decoder is trained on what the codebooks make of a point, and not on the points before it, which a world
foretells. What stands between the two needs the point alone, but for the small part of a chart's score that
reads the frame's features: it is left out, as a decoder does.
"""

from __future__ import annotations

import torch
from atlas_topoencoder.model import TopoEncoder, compose
from atlas_topoencoder.points import exp0, log0_difference, minus, point

__all__ = ["coded", "decoded"]

_CHUNK = 4096
"""Points decoded together."""


def coded(encoder: TopoEncoder, points: torch.Tensor) -> torch.Tensor:
    """Return what the codebooks make of points `[B, D]` before them, `[B, D]`: code and nuisance together."""
    at, router = point(points), encoder.router
    weights = router(at, router.centers()).weights
    row, c_bar = weights.unsqueeze(1), exp0(weights @ router.centers_tangent)
    local = minus(c_bar, at)
    quantised = encoder.quantiser(local)
    z_q = exp0(torch.bmm(row, quantised.z_q_tangent).squeeze(1))
    nuisance = encoder.structure_filter(log0_difference(quantised.z_q, local.at(1)))
    z_n = torch.bmm(row, nuisance).squeeze(1)
    return compose(c_bar.z, z_q.z, z_n, encoder.architecture.max_radius)


@torch.no_grad()
def decoded(encoder: TopoEncoder, points: torch.Tensor) -> torch.Tensor:
    """Return the frames of points `[B, D]` before their codes, without texture, `[B, *shape]`."""
    parts = torch.split(points, _CHUNK)
    return torch.cat([encoder.decode(coded(encoder, part)).base for part in parts])
