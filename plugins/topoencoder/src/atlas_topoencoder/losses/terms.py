"""The register of loss terms: weight, gradient group, formula and source of each."""

from __future__ import annotations

from atlas.contracts import LossTerm
from atlas_topoencoder.losses.readings import READINGS

__all__ = ["PHASE_1", "SEED_WEIGHTS", "SLOT", "TERMS"]

SLOT = "topoencoder"

_PHASE_1 = "seed 002, section 6, phase 1"
_TIER = "seed 002, section 0.4, tier"
_LATENT = "seed 002, section 1"

PHASE_1 = (
    "reconstruction",
    "vq",
    "routing-entropy",
    "diversity",
    "uniformity",
    "radial-calibration",
    "codebook-spread",
    "chart-collapse",
    "code-collapse",
    "window",
    "consistency",
    "jump",
    "codebook-center",
)
"""The thirteen terms of the seed's first phase."""

# name: default weight, weight in the seed's full set, group, formula, source
_REGISTER: dict[str, tuple[float, float, str, str, str]] = {
    "reconstruction": (5.0, 1.0, "base", "mean (x' - x)^2", _PHASE_1),
    "vq": (
        1.0,
        1.0,
        "base",
        "mean_bd sum_k sg w_k (log0((-sg v) + e_k)^2 + 0.25 log0((-sg e_k) + v)^2)",
        f"{_PHASE_1}; {_LATENT}, objective 1",
    ),
    "routing-entropy": (0.1, 0.1, "base", "H(K|X)", f"{_PHASE_1}; sharpens"),
    "diversity": (0.3, 0.1, "base", "log N_c - H(mean w)", _PHASE_1),
    "uniformity": (
        0.0,
        0.1,
        "zn-reg",
        "mean_i log mean_j exp(-tau_i d(z_i, z_j)), tau = sqrt(D) (1 - |z|^2) / 2",
        _PHASE_1,
    ),
    "radial-calibration": (0.0, 0.1, "zn-reg", "mean (|z_geo| - 1 + H(w) / log N_c)^2", _PHASE_1),
    "codebook-spread": (0.0, 0.05, "base", "mean_k mean_{i<j} max(0, 1 - d(e_ki, e_kj))", _PHASE_1),
    "chart-collapse": (0.0, 1.0, "base", "max_k mean w_k - 1 / N_c", _PHASE_1),
    "code-collapse": (0.05, 0.5, "base", "sum_k mean w_k (log K - H(soft codes of k))", _PHASE_1),
    "window": (0.0, 0.5, "base", "max(0, 0.1 - I(X; K))", _PHASE_1),
    "consistency": (0.0, 0.1, "base", "KL(w_enc | w_dec)", _PHASE_1),
    "jump": (
        0.0,
        0.1,
        "zn-reg",
        "mean_{i != j} sum_b w_i w_j d(J_ij(n_i), n_j)^2 / sum_b w_i w_j, n = exp0(z_n)",
        f"{_PHASE_1}; {_TIER} 5",
    ),
    "codebook-center": (0.0, 0.02, "base", "mean_k |mean_j log0 e_kj|^2", _PHASE_1),
    "variance": (0.0, 0.1, "base", "max(0, 0.05 D - E|log0 z_geo - mean|^2)", f"{_TIER} 1"),
    "chart-separation": (
        0.0,
        0.1,
        "base",
        "mean_{i<j} max(0, 2 - d(m_i, m_j)), m_k the charts' mean points",
        f"{_TIER} 1",
    ),
    "center-separation": (0.0, 0.05, "base", "mean_{i<j} max(0, 1 - d(c_i, c_j))", f"{_TIER} 1"),
    "residual-scale": (0.0, 0.01, "zn-reg", "E|z_n|^2", f"{_TIER} 1"),
    "equivariance-mixing": (0.0, 0.01, "base", "mean |M|", f"{_TIER} 1"),
    "equivariance-ratio": (0.0, 0.01, "base", "E log(|S(delta)| / |delta|)^2", f"{_TIER} 1"),
    "disentangle": (0.0, 0.1, "base", "|Cov(w, |log0 z_geo|)|^2", f"{_TIER} 2"),
    "orthogonality": (0.0, 0.001, "base", "Var log sigma_i(W), mean over the encoder's maps", f"{_TIER} 3"),
    "code-entropy": (0.0, 0.1, "base", "log(N_c K) - H(soft codes)", f"{_TIER} 3"),
    "per-chart-code-entropy": (0.0, 0.1, "base", "mean_k (log K - H(soft codes of k))", f"{_TIER} 3"),
    "nuisance-prior": (
        0.0,
        0.01,
        "zn-reg",
        "mean_d KL(N(m_d, s_d^2) | N(0, 1)) of z_n over the batch",
        f"{_TIER} 4; {_LATENT}, objective 4",
    ),
    "texture-prior": (
        0.0,
        0.01,
        "base",
        "mean_d KL(N(m_d, s_d^2) | N(0, 1)) of z_tex over the batch",
        f"{_TIER} 4; {_LATENT}, objective 4",
    ),
    "orbit": (0.2, 0.1, "base", "(KL(w | w') + KL(w' | w)) / 2 between views", f"{_TIER} 4"),
    "vicreg-invariance": (0.0, 0.1, "base", "E d(z_geo, z_geo')^2", f"{_TIER} 4; {_LATENT}, objective 5"),
    "vicreg-variance": (
        0.0,
        0.1,
        "base",
        "mean_d max(0, 0.25 - sd_d), of log0 z_geo",
        f"{_TIER} 4; {_LATENT}, objective 5",
    ),
    "vicreg-covariance": (
        0.0,
        0.01,
        "base",
        "sum_{c != d} Cov_cd^2 / D, of log0 z_geo",
        f"{_TIER} 4; {_LATENT}, objective 5",
    ),
    "supervised-route": (0.0, 1.0, "supervised", "-log sum_k w_k P_k(y)", "seed 002, section 0.4"),
    "supervised-purity": (0.0, 0.1, "supervised", "sum_k mean w_k H(P_k)", "seed 002, section 0.4"),
    "supervised-balance": (0.0, 0.01, "supervised", "KL(mean w | uniform)", "seed 002, section 0.4"),
    "supervised-metric": (
        0.0,
        0.01,
        "supervised",
        "mean_{y != y'} o max(0, o)^2, o = w . w'",
        "seed 002, section 0.4",
    ),
    "slowness": (0.0, 0.1, "sequence", "lambda(e)^2 |e' - e|^2 of macro points", f"{_LATENT}, objective 3"),
    "enclosure": (0.0, 0.5, "sequence", "-log p(K' | K, a)", f"{_LATENT}, objective 2"),
    "isometry": (0.0, 0.01, "base", "|W^T W - I|_F^2 / n, mean over the encoder's maps", f"{_LATENT}, 6"),
    "texture-orthogonality": (
        0.0,
        0.01,
        "base",
        "E cos(z_tex, z_n)^2 + E cos(z_tex, log0 z_q)^2",
        f"{_LATENT}, texture",
    ),
    "texture-independence": (
        0.02,
        0.0,
        "base",
        "sum_k |sum_b sg w_bk t_b|^2 / sum_b w_bk / sum_b |t_b|^2, t = z_tex - its mean",
        "Atlas; not in the seed",
    ),
    "anchoring": (
        0.5,
        0.0,
        "base",
        "mean -log w_a, a the cluster that placed the example",
        "Atlas; not in the seed",
    ),
    "base-reconstruction": (5.0, 0.0, "base", "mean (base(z_geo) - x)^2", "Atlas; not in the seed"),
    "symbol-reconstruction": (
        4.0,
        0.0,
        "base",
        "mean (base(c_K + e_K) - x)^2, straight through to v",
        "Atlas; not in the seed",
    ),
}

TERMS: dict[str, LossTerm] = {
    name: LossTerm(name, SLOT, READINGS[name], weight, group, formula, source)
    for name, (weight, _, group, formula, source) in _REGISTER.items()
}
"""Every term by its name, in the order of the seed."""

SEED_WEIGHTS: dict[str, float] = {name: entry[1] for name, entry in _REGISTER.items()}
"""Weights of the seed's full set, as its public implementation had them at the time where it had them."""
