"""The trace's method as a step chooses it, and the trace by tensor beside it."""

from __future__ import annotations

import pytest
from atlas_pyhessian.card_params import card_params
from atlas_pyhessian.measurement import measure_curvature
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.settings import Settings
from atlas_pyhessian.table_rows import tensor_rows

from atlas.errors import BadInput
from atlas.randomness import RandomStreams


def measured(problem, **params):
    settings = Settings.from_params(card_params(params))
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=True)
        probes = Probes(
            RandomStreams(3), parameters.names, parameters.sizes, parameters.dtype, parameters.device
        )
        result = measure_curvature(operator, probes, settings, purpose="all", report=lambda *told: None)
        operator.release()
        return result, tensor_rows("all", parameters, result)


@pytest.mark.parametrize("method", ["deflated", "xtrace", "hutch++"])
def test_each_method_measures_the_trace_of_an_exact_hessian(problem_and_hessian, method):
    problem, hessian = problem_and_hessian("gpt2")
    trace = {"method": method, "max_probes": 48}
    result, rows = measured(problem, top_k=3, trace=trace)
    found = {quantity.quantity: quantity for quantity in result.quantities}
    exact = {"trace": float(hessian.trace()), "frobenius_squared": float(hessian.square().sum())}
    for name, value in exact.items():
        assert abs(found[name].value - value) <= 5 * found[name].uncertainty
        assert found[name].low <= found[name].value <= found[name].high
    assert result.trace.trace.num_samples == {"deflated": 48, "xtrace": 24, "hutch++": 16}[method]
    assert found["trace"].note.endswith(f"by {method}") == (method != "deflated")
    assert bool(rows) == (method == "deflated")


def test_every_tensor_has_a_row_and_shares_sum_to_one(problem_and_hessian):
    """The products of the density serve the tensors too: 4 probes of 8 steps, and no other product."""
    problem, hessian = problem_and_hessian("gpt2")
    density = {"probes": 4, "steps": 8, "bins": 8}
    result, rows = measured(problem, top_k=3, trace={"max_probes": 4}, density=density)
    assert result.quantities[-1].num_matvecs == result.spectrum.num_matvecs + 32
    sizes = [parameter.numel() for parameter in problem.module.parameters()]
    assert [row["parameter"] for row in rows] == [name for name, _ in problem.module.named_parameters()]
    assert [row["size"] for row in rows] == sizes
    assert sum(row["frobenius_share"] for row in rows) == pytest.approx(1.0)
    for row, part in zip(rows, hessian.diagonal().split(sizes), strict=True):
        assert abs(row["trace"] - float(part.sum())) <= 8 * row["standard_error"] + 1e-9


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"trace": {"method": "xtrace", "max_probes": 10}}, "too few products for an error of xtrace"),
        ({"trace": {"method": "hutch++", "max_probes": 20}}, "too few products for an error of hutch"),
        ({"trace": {"method": "xtrace"}, "engine": "pyhessian"}, "in its own way"),
    ],
)
def test_a_method_without_its_means_is_refused_before_any_product(params, message):
    with pytest.raises(BadInput, match=message):
        Settings.from_params(card_params(params))
