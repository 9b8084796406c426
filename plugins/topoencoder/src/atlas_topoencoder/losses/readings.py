"""What each loss term takes from a model's outputs: one function a term, `ModelOutputs` to a scalar."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from atlas.errors import BadInput
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.geometry import (
    chord,
    conformal_factor,
    expmap0,
    logmap0,
    mobius_add,
    project,
    sq_distance,
)
from atlas_topoencoder.losses import entropies, moments, separation, supervision
from atlas_topoencoder.outputs import Encoding, ModelOutputs
from atlas_topoencoder.points import exp0, half_distance, norm_of
from atlas_topoencoder.quantiser import SoftEquivariantMetric

__all__ = ["READINGS"]

Reading = Callable[[ModelOutputs], torch.Tensor]

COMMITMENT = 0.25
"""Of the encoder to its code, beside the codebook's pull to the encoder."""
LEAST_INFORMATION = 0.1
"""Nats of I(X; K) under which the window term acts."""
CODE_TEMPERATURE = 0.1
"""Of soft codes, in squared tangent units."""
CODE_MARGIN = 1.0
CENTRE_MARGIN = 1.0
CHART_MARGIN = 2.0
LEAST_VARIANCE = 0.05
"""Of the logarithm of z_geo, for each dimension."""
LEAST_SPREAD = 0.25
"""Standard deviation of each dimension of the logarithm of z_geo."""
LEAST_PAIR_MASS = 1e-4


def _mean_square(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return (found - wanted).square().mean()


def _reconstruction(o: ModelOutputs) -> torch.Tensor:
    return _mean_square(o.decoding.reconstruction, o.x)


def _base_reconstruction(o: ModelOutputs) -> torch.Tensor:
    return _mean_square(o.decoding.base, o.x)


def _symbol_reconstruction(o: ModelOutputs) -> torch.Tensor:
    e, model = o.encoding, o.model
    center = expmap0(e.centers_tangent[e.chart])
    code = e.z_q_charts[torch.arange(len(e.chart), device=e.chart.device), e.chart]
    point = project(mobius_add(center, code), model.architecture.max_radius)
    return _mean_square(model.decode(point + (e.v - e.v.detach())).base, o.x)


def _vq(o: ModelOutputs) -> torch.Tensor:
    e = o.encoding
    half = half_distance(chord(e.local.detach().unsqueeze(1), e.z_q_charts), 1e-12)
    commit = (e.residual_charts * e.residual_charts).sum(-1)  # the code is constant in it
    pulled = half * half + COMMITMENT * commit  # |log0((-x) + y)| is half the distance, whichever is x
    return (e.weights.detach() * pulled).sum(1).mean() / e.local.shape[1]


def _routing_entropy(o: ModelOutputs) -> torch.Tensor:
    return entropies.conditional_entropy(o.encoding.probabilities, o.encoding.log_probabilities)


def _anchoring(o: ModelOutputs) -> torch.Tensor:
    log_p = o.encoding.log_probabilities
    if o.anchors is None:
        return 0 * log_p.sum()
    given = (o.anchors >= 0).to(log_p.dtype)
    chosen = log_p.gather(1, o.anchors.clamp_min(0)[:, None])[:, 0]
    return -(given * chosen).sum() / given.sum().clamp_min(1)


def _diversity(o: ModelOutputs) -> torch.Tensor:
    return entropies.evenness_gap(o.encoding.probabilities.mean(0))


def _chart_collapse(o: ModelOutputs) -> torch.Tensor:
    return entropies.largest_excess(o.encoding.probabilities.mean(0))


def _window(o: ModelOutputs) -> torch.Tensor:
    e = o.encoding
    return entropies.information_gap(e.probabilities, e.log_probabilities, LEAST_INFORMATION)


def _usage(o: ModelOutputs) -> torch.Tensor:
    return entropies.code_usage(o.encoding.probabilities, o.encoding.soft_codes(CODE_TEMPERATURE))


def _code_collapse(o: ModelOutputs) -> torch.Tensor:
    usage = _usage(o)
    return (usage.sum(-1) * entropies.per_chart_gaps(usage)).sum()


def _per_chart_code_entropy(o: ModelOutputs) -> torch.Tensor:
    return entropies.per_chart_gaps(_usage(o)).mean()


def _code_entropy(o: ModelOutputs) -> torch.Tensor:
    return entropies.evenness_gap(_usage(o).flatten())


def _consistency(o: ModelOutputs) -> torch.Tensor:
    return entropies.divergence(o.encoding.log_probabilities, o.decoding.log_probabilities)


def _uniformity(o: ModelOutputs) -> torch.Tensor:
    return separation.uniformity(o.encoding.z_geo)


def _radial_calibration(o: ModelOutputs) -> torch.Tensor:
    e = o.encoding
    most = math.log(max(e.probabilities.shape[1], 2))
    confidence = 1 + (e.probabilities * e.log_probabilities).sum(-1, keepdim=True) / most
    return _mean_square(norm_of(e.z_geo), confidence)


def _codebook_spread(o: ModelOutputs) -> torch.Tensor:
    return separation.closeness(o.encoding.codebook, CODE_MARGIN)


def _codebook_center(o: ModelOutputs) -> torch.Tensor:
    return separation.centring(o.encoding.codebook_tangent)


def _center_separation(o: ModelOutputs) -> torch.Tensor:
    return separation.closeness(o.encoding.centers, CENTRE_MARGIN)


def _chart_separation(o: ModelOutputs) -> torch.Tensor:
    return separation.chart_separation(o.encoding.z_geo, o.encoding.probabilities, CHART_MARGIN)


def _jump(o: ModelOutputs) -> torch.Tensor:
    missed = o.model.jump.sq_misses(exp0(o.encoding.z_n_charts))
    return separation.jump_gap(missed, o.encoding.probabilities, LEAST_PAIR_MASS)


def _variance(o: ModelOutputs) -> torch.Tensor:
    return moments.total_variance_gap(logmap0(o.encoding.z_geo), LEAST_VARIANCE)


def _residual_scale(o: ModelOutputs) -> torch.Tensor:
    return o.encoding.z_n.square().sum(-1).mean()


def _disentangle(o: ModelOutputs) -> torch.Tensor:
    norms = logmap0(o.encoding.z_geo).square().sum(-1).clamp_min(1e-12).sqrt()
    return moments.share_covariance(o.encoding.probabilities, norms)


def _nuisance_prior(o: ModelOutputs) -> torch.Tensor:
    return moments.gaussian_divergence(o.encoding.z_n)


def _texture_prior(o: ModelOutputs) -> torch.Tensor:
    return moments.gaussian_divergence(o.encoding.z_tex)


def _texture_orthogonality(o: ModelOutputs) -> torch.Tensor:
    e = o.encoding
    return moments.alignment(e.z_tex, e.z_n) + moments.alignment(e.z_tex, logmap0(e.z_q))


def _texture_independence(o: ModelOutputs) -> torch.Tensor:
    return moments.between_share(o.encoding.z_tex, o.encoding.probabilities.detach())


def _metric(o: ModelOutputs) -> SoftEquivariantMetric:
    if o.model.quantiser.metric is None:
        raise BadInput(
            "the equivariance terms read the learned metric, and the model has none",
            where="loss",
            fix="set the model's `soft_equivariant: true`, or leave these terms out",
        )
    return o.model.quantiser.metric


def _equivariance_mixing(o: ModelOutputs) -> torch.Tensor:
    return _metric(o).mixing.abs().mean()


def _equivariance_ratio(o: ModelOutputs) -> torch.Tensor:
    _metric(o)
    by_metric = o.encoding.code_sq_distances().clamp_min(1e-12)
    plain = half_distance(o.encoding.code_chords, 1e-6).square()
    return ((by_metric / plain).log() / 2).square().mean()


def _isometry(o: ModelOutputs) -> torch.Tensor:
    return torch.stack([moments.gram_excess(w) for w in o.model.encoder_weights()]).mean()


def _orthogonality(o: ModelOutputs) -> torch.Tensor:
    return torch.stack([moments.log_singular_variance(w) for w in o.model.encoder_weights()]).mean()


def _views(o: ModelOutputs) -> list[Encoding]:
    if not o.views:
        raise BadInput(
            "the terms `orbit` and `vicreg-invariance` compare views, and there are none",
            where="loss",
            fix="declare `views`, or give these terms the weight 0",
        )
    return list(o.views.values())


def _orbit(o: ModelOutputs) -> torch.Tensor:
    here = o.encoding.log_probabilities
    there = [view.log_probabilities for view in _views(o)]
    both = [entropies.divergence(here, log) + entropies.divergence(log, here) for log in there]
    return torch.stack(both).mean() / 2


def _vicreg_invariance(o: ModelOutputs) -> torch.Tensor:
    return torch.stack([sq_distance(o.encoding.z_geo, view.z_geo).mean() for view in _views(o)]).mean()


def _vicreg_variance(o: ModelOutputs) -> torch.Tensor:
    return moments.spread_gap(logmap0(o.encoding.z_geo), LEAST_SPREAD)


def _vicreg_covariance(o: ModelOutputs) -> torch.Tensor:
    return moments.covariance_excess(logmap0(o.encoding.z_geo))


def _labelled(o: ModelOutputs) -> tuple[Companions, torch.Tensor]:
    if o.labels is None or o.companions is None or o.companions.class_table is None:
        raise BadInput(
            "the supervised terms need labels, and the data have none",
            where="loss",
            fix="give labelled data, or leave the supervised terms out",
        )
    return o.companions, o.labels


def _supervised_route(o: ModelOutputs) -> torch.Tensor:
    companions, labels = _labelled(o)
    return supervision.class_surprise(o.encoding.probabilities, companions.chart_classes(), labels)


def _supervised_purity(o: ModelOutputs) -> torch.Tensor:
    companions, _ = _labelled(o)
    return supervision.chart_impurity(o.encoding.probabilities, companions.chart_classes())


def _supervised_balance(o: ModelOutputs) -> torch.Tensor:
    _labelled(o)
    return _diversity(o)


def _supervised_metric(o: ModelOutputs) -> torch.Tensor:
    _, labels = _labelled(o)
    return supervision.class_overlap(o.encoding.probabilities, labels, 1.0)


def _next(o: ModelOutputs) -> Encoding:
    if o.next is None:
        raise BadInput(
            "the terms `slowness` and `enclosure` need sequences, and the data have none",
            where="loss",
            fix="give data with a next step, or give these terms the weight 0",
        )
    return o.next


def _macro(e: Encoding) -> torch.Tensor:
    return mobius_add(e.c_bar, e.z_q_st)


def _slowness(o: ModelOutputs) -> torch.Tensor:
    here, there = _macro(o.encoding), _macro(_next(o))
    return (conformal_factor(here).detach() * (there - here)).square().sum(-1).mean()


def _enclosure(o: ModelOutputs) -> torch.Tensor:
    e, later = o.encoding, _next(o)
    assert o.companions is not None
    scores = o.companions.next_charts(e.probabilities, logmap0(e.z_q_st), o.actions)
    return torch.nn.functional.cross_entropy(scores, later.chart)


READINGS: dict[str, Reading] = {
    "reconstruction": _reconstruction,
    "vq": _vq,
    "routing-entropy": _routing_entropy,
    "diversity": _diversity,
    "uniformity": _uniformity,
    "radial-calibration": _radial_calibration,
    "codebook-spread": _codebook_spread,
    "chart-collapse": _chart_collapse,
    "code-collapse": _code_collapse,
    "window": _window,
    "consistency": _consistency,
    "jump": _jump,
    "codebook-center": _codebook_center,
    "variance": _variance,
    "chart-separation": _chart_separation,
    "center-separation": _center_separation,
    "residual-scale": _residual_scale,
    "equivariance-mixing": _equivariance_mixing,
    "equivariance-ratio": _equivariance_ratio,
    "disentangle": _disentangle,
    "orthogonality": _orthogonality,
    "code-entropy": _code_entropy,
    "per-chart-code-entropy": _per_chart_code_entropy,
    "nuisance-prior": _nuisance_prior,
    "texture-prior": _texture_prior,
    "orbit": _orbit,
    "vicreg-invariance": _vicreg_invariance,
    "vicreg-variance": _vicreg_variance,
    "vicreg-covariance": _vicreg_covariance,
    "supervised-route": _supervised_route,
    "supervised-purity": _supervised_purity,
    "supervised-balance": _supervised_balance,
    "supervised-metric": _supervised_metric,
    "slowness": _slowness,
    "enclosure": _enclosure,
    "isometry": _isometry,
    "texture-orthogonality": _texture_orthogonality,
    "texture-independence": _texture_independence,
    "anchoring": _anchoring,
    "base-reconstruction": _base_reconstruction,
    "symbol-reconstruction": _symbol_reconstruction,
}
