from __future__ import annotations

import pytest
import torch

from atlas.contracts import LossTerm
from atlas.errors import BadInput, PluginFault
from atlas.objective import Objective


def term(name, function, *, slot="model", weight=1.0, group="all"):
    return LossTerm(name, slot, function, weight, group, formula="", source="")


SQUARE = term("square", lambda x: (x**2).sum(), group="encoder")
CUBE = term("cube", lambda x: (x**3).sum(), weight=0.5, group="decoder")
SUM = term("sum", lambda x: x.sum(), group="encoder")


def test_total_is_the_weighted_sum_and_an_unnamed_term_has_its_default_weight():
    value = Objective([SQUARE, CUBE], {"square": 10.0})({"model": torch.tensor([1.0, 2.0])})
    assert value.total.item() == 10.0 * 5.0 + 0.5 * 9.0


def test_terms_are_reported_before_their_weights():
    value = Objective([SQUARE, CUBE], {"square": 10.0})({"model": torch.tensor([1.0, 2.0])})
    assert {name: v.item() for name, v in value.terms.items()} == {"square": 5.0, "cube": 9.0}


def test_groups_hold_the_weighted_terms_of_each_gradient_group():
    value = Objective([SQUARE, CUBE, SUM], {"sum": 2.0})({"model": torch.tensor([1.0, 2.0])})
    assert {name: v.item() for name, v in value.groups.items()} == {"encoder": 11.0, "decoder": 4.5}


def test_total_carries_the_gradient_of_the_weighted_sum():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(Objective([SQUARE, CUBE])({"model": x}).total, x)
    assert gradient.tolist() == [2.0 + 1.5, 4.0 + 6.0]


def test_a_term_of_weight_zero_is_not_computed():
    def explode(_):
        raise AssertionError("computed")

    value = Objective([SQUARE, term("never", explode)], {"never": 0})({"model": torch.ones(2)})
    assert list(value.terms) == ["square"]


def test_a_weight_for_an_unknown_term_is_refused_with_the_close_name():
    with pytest.raises(BadInput, match=r"loss\.squre: .*did you mean square\?"):
        Objective([SQUARE, CUBE], {"squre": 1.0})


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), True, "1.0", None])
def test_a_weight_that_is_no_finite_number_is_refused(weight):
    with pytest.raises(BadInput, match="expected a finite number"):
        Objective([SQUARE], {"square": weight})


def test_an_objective_without_a_weighted_term_is_refused():
    with pytest.raises(BadInput, match="every loss term has the weight 0"):
        Objective([SQUARE], {"square": 0.0})


def test_an_unknown_slot_is_refused_with_the_close_name():
    with pytest.raises(BadInput, match="did you mean model"):
        Objective([term("odd", torch.sum, slot="modl")])({"model": torch.ones(2)})


def test_a_term_that_returns_no_scalar_is_the_plugins_fault():
    with pytest.raises(PluginFault, match="expected a scalar tensor"):
        Objective([term("wide", lambda x: x)])({"model": torch.ones(2)})


def test_a_term_given_twice_is_refused():
    with pytest.raises(BadInput, match="given twice"):
        Objective([SQUARE, SQUARE])
