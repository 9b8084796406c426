"""Coverage of the trace's interval where the standard error stops the sampling, at the card's defaults."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atlas_pyhessian.hutchinson1989trace import MIN_PROBES, mean_estimate, trace
from attrs import define

DEFAULTS = {"rel_se": 0.05, "max_probes": 32}
NOISE = np.random.default_rng(4).standard_normal(120)
SPECTRA = {
    "stops halfway": NOISE - NOISE.mean() + 0.6,
    "skewed": np.concatenate([np.ones(30), np.linspace(-0.2, 0.2, 90)]),
    "trace zero": NOISE - NOISE.mean(),
}


@define
class Samples:
    """One dimension whose products are given numbers, so that trace samples have a known law."""

    numbers: np.ndarray
    num_matvecs: int = 0
    size: int = 1
    dtype: torch.dtype = torch.float64
    device: str = "cpu"

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        self.num_matvecs += 1
        return torch.mul(vector, self.numbers[self.num_matvecs - 1], out=out)


def covers(operator, draw, exact):
    estimate = trace(operator, draw, **DEFAULTS)
    return estimate.trace.low <= exact <= estimate.trace.high, estimate.trace.num_samples


@pytest.mark.parametrize("name", SPECTRA)
def test_intervals_cover_in_93_to_97_of_100_where_the_error_stops_the_probes(dense, name):
    """2,000 seeds; the binomial standard error of the coverage is 0.5%."""
    operator = dense(SPECTRA[name])
    hits = [
        covers(
            operator,
            lambda i, s=seed: torch.from_numpy(np.random.default_rng((s, i)).integers(0, 2, 120) * 2.0 - 1),
            SPECTRA[name].sum(),
        )[0]
        for seed in range(2000)
    ]
    assert 0.93 <= np.mean(hits) <= 0.97


def test_stopping_early_does_not_cost_coverage():
    """4,000 seeds of normal samples that need about 23 probes; Student's own quantile covers 93.0%."""
    rng = np.random.default_rng(0)
    one = lambda i: torch.ones(1, dtype=torch.float64)  # noqa: E731 - a probe of one dimension
    results = [covers(Samples(1 + 0.25 * rng.standard_normal(32)), one, 1.0) for _ in range(4000)]
    assert 15 < np.mean([count for _, count in results]) < 30
    assert 0.938 <= np.mean([hit for hit, _ in results]) <= 0.97


def test_an_early_stop_has_the_interval_of_the_fewest_probes():
    operator = Samples(1 + 0.15 * np.resize([1.0, -1.0], 200))
    estimate = trace(
        operator, lambda i: torch.ones(1, dtype=torch.float64), rel_se=0.03, max_probes=200
    ).trace
    assert MIN_PROBES < estimate.num_samples < 200
    samples = operator.numbers[: estimate.num_samples].tolist()
    assert estimate == mean_estimate(samples, degrees=MIN_PROBES - 1)
    whole = trace(Samples(operator.numbers), lambda i: torch.ones(1).double(), rel_se=None, max_probes=40)
    assert whole.trace == mean_estimate(operator.numbers[:40].tolist())
