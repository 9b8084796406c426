"""Tension against quadratics whose answer is known, and from a manifest."""

from __future__ import annotations

import pytest
import torch
from atlas_lossyscape.drift import Walk, drift_ratios
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
        (found,) = drift_ratios(surface, [kick], Walk(rate=0.5, length=0.01, steps=7, replicas=3))
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
