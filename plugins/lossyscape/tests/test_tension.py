"""Tension against quadratics whose answer is known, and from a manifest."""

from __future__ import annotations

import pytest
import torch
import yaml
from atlas_lossyscape.drift import drift_ratio
from atlas_lossyscape.tension import state_of
from atlas_pyhessian.operators.loss_surface import LossSurface
from atlas_pyhessian.preparation import prepared

from atlas.contracts import Batch

THRESHOLDS = {"curvature": 0.1, "share": 0.1, "drift": 0.7}


class Cup(torch.nn.Module):
    """Loss `5 + l |x - 1|^2 / 2`."""

    def __init__(self, value: float):
        super().__init__()
        self.x = torch.nn.Parameter(torch.zeros(6, dtype=torch.float64))
        self.value = value

    def loss_sum(self, batch):
        return 5 + self.value * (self.x - 1).square().sum() / 2


def kick(replica, step):
    rng = torch.Generator().manual_seed(10 * replica + step)
    return torch.randn(6, generator=rng, dtype=torch.float64)


def drift(value):
    cup = Cup(value)
    with prepared(cup) as parameters:
        surface = LossSurface(parameters, cup.loss_sum, [Batch({}, 1.0)])
        found = drift_ratio(surface, kick, rate=0.5, length=0.01, steps=7, replicas=3)
    assert not cup.x.detach().any()
    return found


def test_nothing_holds_where_there_is_no_curvature():
    found = drift(0.0)

    assert (found.ratio, found.standard_error) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))


def test_each_kick_decays_by_one_less_rate_times_eigenvalue():
    found = drift(1.2)

    # Exact: |sum_t 0.4^(6-t) d_t| / |sum_t d_t| of the unit kicks d_t; tolerance is float64 rounding.
    expected = []
    for replica in range(3):
        kicks = torch.stack([kick(replica, t) / kick(replica, t).norm() for t in range(7)])
        factors = 0.4 ** torch.arange(6, -1, -1, dtype=torch.float64)
        expected.append(float((factors @ kicks).norm() / kicks.sum(0).norm()))
    assert found.ratio == pytest.approx(sum(expected) / 3, rel=1e-9)


def test_taut_meets_all_thresholds_and_slack_none():
    states = [state_of(*values, THRESHOLDS) for values in ((0.2, 0.2, 0.5), (0.0, 0.0, 1.0), (0.2, 0.0, 1.0))]

    assert states == ["taut", "slack", "mixed"]


def test_tension_of_a_language_model_is_measured_from_a_manifest(atlas, tiny_model):
    text = yaml.safe_dump(
        {
            "atlas": 1,
            "name": "tiny",
            "lineage": "TIN",
            "governance": "none",
            "targets": {"lm": {"use": "hf", "path": str(tiny_model), "dtype": "float64"}},
            "stimulus": {"use": "text", "texts": ["A cat sat.", "Rain fell.", "No bird sang."]},
            "steps": [{"id": "it", "use": "tension", "target": "lm", "params": {"top_k": 3}}],
        }
    )
    atlas.write("m.yaml", text)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err

    view = atlas.view(atlas.runs()[0].name)
    (row,) = view.tables("it")["tension"]
    quantities = {q.quantity: q for _, q in view.quantities()}

    assert row["num_certified"] == 3 and 0 <= row["top_share"] <= 1
    # Of 3,000 directions a few bend, so that isotropic noise hardly feels them.
    assert row["drift"] == pytest.approx(1.0, abs=0.05) and abs(row["drift_top"] - 1.0) > 0.1
    assert quantities["top_share"].uncertainty > 0
