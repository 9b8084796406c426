"""What a TopoEncoder returns and what its loss terms read.

Shapes: `B` examples, `H` features, `D` latent dimensions, `N_c` charts, `K` codes of a chart. A point
lies in the unit ball; a tangent vector lies at the origin, in the Euclidean units of `logmap0`
(hyperbolic length is twice its norm). Points of a chart, codes among them, are relative to the barycentre:
`local = (-c_bar) + v`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import torch

from atlas_topoencoder.points import half_distance

if TYPE_CHECKING:
    from atlas_topoencoder.companions import Companions
    from atlas_topoencoder.model import TopoEncoder

__all__ = ["Decoding", "Encoding", "ModelOutputs"]


class Encoding(NamedTuple):
    """A batch in latent space.

    Everything carries its graph but what is said to be constant. `weights` blend the charts;
    `probabilities` are the softmax of the scores under every kind of routing, which entropies read.

    Attributes:
        features: Of the extractor, `[B, H]`.
        v: Point before quantisation, `[B, D]`, in the ball.
        scores: Of the router, before the softmax, `[B, N_c]`.
        log_probabilities: Logarithms of their softmax, `[B, N_c]`.
        probabilities: Softmax of the scores, `[B, N_c]`.
        weights: The same under soft routing; one-hot under `hard` (constant) and `straight-through`
            (the gradient of the softmax), `[B, N_c]`.
        chart: Chart of the greatest score, `[B]` int64.
        centers: Chart centres, `[N_c, D]`, in the ball.
        centers_tangent: Their logarithms, the parameters themselves, `[N_c, D]`.
        c_bar: Weighted barycentre of the centres, `[B, D]`, in the ball.
        local: `(-c_bar) + v`, `[B, D]`, in the ball.
        code_chords: `sinh(d / 2)^2` of the hyperbolic distances d of `local` to every code, `[B, N_c, K]`:
            monotone in d, and by one matrix product. Its rounding is absolute, about 1e-6: for choosing
            and for soft assignment, not for small distances.
        metric_sq_distances: Squared lengths of the logarithms under the soft-equivariant metric,
            `[B, N_c, K]`; None without it.
        codebook: The codes as points, live, `[N_c, K, D]`, in the ball.
        codebook_tangent: Their logarithms, the parameters themselves, `[N_c, K, D]`.
        codes: Nearest code of each chart, `[B, N_c]` int64.
        z_q_charts: That code, live in the codebook, `[B, N_c, D]`, in the ball.
        z_q: Barycentre of `z_q_charts` by `weights`, live, `[B, D]`, in the ball.
        z_q_st: Value of `z_q` with the gradient of `local`, `[B, D]`, in the ball.
        residual_charts: Logarithm of `local` seen from each chart's code, the code constant,
            `[B, N_c, D]`, tangent.
        z_n_charts: Nuisance of each chart, the structure filter of `residual_charts`, `[B, N_c, D]`,
            tangent.
        z_n: Their weighted sum, `[B, D]`, tangent.
        z_tex: Texture, the logarithm of `local` seen from the constant `z_q`, plus the detail where the
            model has one, less `z_n`, `[B, D]`, tangent.
        z_geo: What the decoder's base path reads, `c_bar + (z_q_st + exp0(z_n))`, `[B, D]`, in the ball.
    """

    features: torch.Tensor
    v: torch.Tensor
    scores: torch.Tensor
    log_probabilities: torch.Tensor
    probabilities: torch.Tensor
    weights: torch.Tensor
    chart: torch.Tensor
    centers: torch.Tensor
    centers_tangent: torch.Tensor
    c_bar: torch.Tensor
    local: torch.Tensor
    code_chords: torch.Tensor
    metric_sq_distances: torch.Tensor | None
    codebook: torch.Tensor
    codebook_tangent: torch.Tensor
    codes: torch.Tensor
    z_q_charts: torch.Tensor
    z_q: torch.Tensor
    z_q_st: torch.Tensor
    residual_charts: torch.Tensor
    z_n_charts: torch.Tensor
    z_n: torch.Tensor
    z_tex: torch.Tensor
    z_geo: torch.Tensor

    @property
    def code(self) -> torch.Tensor:
        """The code of each example in its own chart, `[B]` int64."""
        return self.codes.gather(1, self.chart[:, None])[:, 0]

    @property
    def symbol(self) -> torch.Tensor:
        """Chart and code as one number, `chart * K + code`, `[B]` int64."""
        return self.chart * self.code_chords.shape[2] + self.code

    def code_sq_distances(self) -> torch.Tensor:
        """Squared lengths of the logarithms of `local` seen from every code, `[B, N_c, K]`, tangent units.

        By the soft-equivariant metric where the model has one. Live; computed when called.
        """
        if self.metric_sq_distances is not None:
            return self.metric_sq_distances
        return half_distance(self.code_chords, 1e-12).square()

    def soft_codes(self, temperature: float) -> torch.Tensor:
        """Soft codes of each chart, the softmax of `-distance^2 / temperature`, `[B, N_c, K]`."""
        return (self.code_sq_distances() / -temperature).softmax(-1)


class Decoding(NamedTuple):
    """A batch put back into the space of the data.

    Attributes:
        reconstruction: `base + texture`, `[B, *shape]`.
        scores: Of the decoder's router, `[B, N_c]`; None where the weights were given.
        log_probabilities: Logarithms of what follows, `[B, N_c]`.
        probabilities: Their softmax, `[B, N_c]`; the given weights where those were given.
        weights: What blended the charts, `[B, N_c]`.
        base: From `z_geo` alone, `[B, *shape]`.
        texture: From `z_tex` alone, `[B, *shape]`; None where the model or the call has no texture.
    """

    reconstruction: torch.Tensor
    scores: torch.Tensor | None
    log_probabilities: torch.Tensor
    probabilities: torch.Tensor
    weights: torch.Tensor
    base: torch.Tensor
    texture: torch.Tensor | None


class ModelOutputs(NamedTuple):
    """What the loss terms of the slot `topoencoder` read.

    Attributes:
        x: The examples, `[B, *shape]`.
        encoding: Theirs.
        decoding: Theirs.
        model: For terms that read parameters: codebook, centres, jump operator, spectral weights.
        labels: Class of each example, `[B]` int64; None where there are none.
        views: Encodings of other views of the same examples, by the name of the view.
        next: Encoding of the examples one time step later, in the same order; None without sequences.
        actions: What was done in between, `[B, A]`; None without.
        companions: Parameters that are learned beside the model; None without.
        anchors: Chart that each example was given when charts were placed, -1 where none was, `[B]` int64;
            None before.
    """

    x: torch.Tensor
    encoding: Encoding
    decoding: Decoding
    model: TopoEncoder
    labels: torch.Tensor | None = None
    views: Mapping[str, Encoding] = MappingProxyType({})
    next: Encoding | None = None
    actions: torch.Tensor | None = None
    companions: Companions | None = None
    anchors: torch.Tensor | None = None
