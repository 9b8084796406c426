"""Curvature along directions against exact float64 Hessians and evaluated losses.

Tolerances: 1e-9 relative for sums in float64; the quadratic model is exact for a quadratic loss.
"""

from __future__ import annotations

import copy

import pytest
import torch
from atlas_pyhessian.instrument import measure
from atlas_pyhessian.lines import line_to, measure_lines
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.operators.loss_surface import LossSurface
from atlas_pyhessian.preparation import prepared
from attrs import evolve

from atlas.contracts import Batch
from atlas.errors import BadInput, InstrumentFailed
from atlas.manifest.structure import fill

from .test_instrument import OFFER, ProblemTarget, RecordingContext


def moved(module, scale):
    other = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return other


def flat(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


class TwoTargets(RecordingContext):
    """A step's target and another by name."""

    def target(self, name=None):
        return ProblemTarget(evolve(self.opened.problem, module=self.others[name]))


@pytest.fixture
def run(problem_and_hessian):
    def start(problem, others=None, **params):
        context = TwoTargets(ProblemTarget(problem), fill(OFFER["params"], {"trace": False, **params}))
        context.slices = context.slices[:1]
        context.others = others or {}
        measure(context)
        return context

    return start


def test_a_direction_is_measured_against_the_exact_hessian(run, problem_and_hessian):
    problem, exact = problem_and_hessian("gpt2")
    there = moved(problem.module, 0.05)
    before = flat(problem.module)
    context = run(problem, {"later": there}, along=["later", "gradient"], top_k=3, tolerance=1e-6)
    assert torch.equal(flat(problem.module), before)

    row, gradient = context.tables["directions"]
    way = flat(there) - before
    d = way / way.norm()
    g = torch.cat(
        [v.reshape(-1) for v in torch.autograd.grad(problem.mean_loss(), problem.module.parameters())]
    )
    product = exact @ d
    curvature = float(d @ product)
    assert row["distance"] == pytest.approx(float(way.norm()), rel=1e-9)
    assert row["slope"] == pytest.approx(float(g @ d), rel=1e-9)
    assert row["curvature"] == pytest.approx(curvature, rel=1e-9)
    assert row["product_norm"] == pytest.approx(float(product.norm()), rel=1e-9)
    assert row["residual_norm"] == pytest.approx(float((product - curvature * d).norm()), rel=1e-9)
    theta, vectors = torch.linalg.eigh(exact)
    for cosine in context.tables["alignment"]:
        nearest = int((theta - cosine["eigenvalue"]).abs().argmin())
        wanted = abs(float(vectors[:, nearest] @ (d if cosine["direction"] == "later" else g / g.norm())))
        assert cosine["cosine"] == pytest.approx(wanted, abs=1e-4)  # tolerance over the gap
    unit = g / g.norm()
    assert gradient["distance"] is None
    assert gradient["slope"] == pytest.approx(float(g.norm()), rel=1e-9)
    assert gradient["curvature"] == pytest.approx(float(unit @ exact @ unit), rel=1e-9)
    recorded = [(q.quantity, q.index, q.value) for q in context.quantities if q.quantity.endswith("_along")]
    assert recorded[1] == ("curvature_along", 1, row["curvature"])
    assert recorded[3] == ("curvature_along", 2, gradient["curvature"])


def test_the_way_ends_in_the_loss_of_the_other_checkpoint(run, problem_and_hessian):
    problem, _ = problem_and_hessian("mlp")
    there = moved(problem.module, 0.3)
    context = run(problem, {"later": there}, along=["later"])
    path = context.tables["path"]
    assert path[0]["loss"] == pytest.approx(problem.mean_loss().item(), rel=1e-12)
    kept = copy.deepcopy(problem.module.state_dict())
    problem.module.load_state_dict(there.state_dict())
    expected = problem.mean_loss().item()
    problem.module.load_state_dict(kept)
    assert path[-1]["position"] == 1.0
    assert path[-1]["loss"] == pytest.approx(expected, rel=1e-12)
    gaps = [abs(point["loss"] - point["predicted"]) for point in path[1:3]]
    assert gaps[0] < gaps[1] / 4, "the quadratic model's error falls with the third power"


def test_the_quadratic_model_is_exact_for_a_quadratic_loss():
    module = torch.nn.Linear(3, 1, bias=False).double()
    batch = Batch({"x": torch.randn(9, 3, generator=torch.Generator().manual_seed(1)).double()}, 9.0)

    def loss_sum(given):
        return (module(given.inputs["x"]) - 1).square().sum()

    there = moved(module, 2.0)
    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, [batch], retain_graph=True)
        surface = LossSurface(parameters, loss_sum, [batch])
        (line,) = measure_lines(operator, surface, ["later"], {"later": line_to(parameters, there, "later")})
        assert [point.predicted for point in line.path] == pytest.approx(
            [p.loss for p in line.path], rel=1e-12
        )
        again = measure_lines(operator, surface, ["later"], {"later": line_to(parameters, there, "later")})
        assert again == [line], "the graph that was retained is still that of these weights"


def test_a_loss_that_is_not_finite_on_the_way_names_the_direction_and_leaves_the_weights():
    module = torch.nn.Linear(2, 1, bias=False).double()
    start = module.weight.detach().clone()
    with prepared(module) as parameters:
        batch = Batch({"x": torch.ones(1, 2).double()}, 1.0)

        def loss_sum(given):
            moved_far = not torch.equal(module.weight, start)
            return module(given.inputs["x"]).square().sum() * (float("nan") if moved_far else 1.0)

        surface = LossSurface(parameters, loss_sum, [batch])
        operator = HessianOperator(parameters, loss_sum, [batch], retain_graph=True)
        line = line_to(parameters, moved(module, 1.0), "far")
        with pytest.raises(InstrumentFailed, match=r"direction far: the loss is nan at 0\.125 of the way"):
            measure_lines(operator, surface, ["far"], {"far": line})
    assert torch.equal(module.weight, start)


def test_a_checkpoint_with_other_parameters_is_refused_by_name():
    here = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 3), "b": torch.nn.Linear(2, 2)})
    there = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 4)})
    with prepared(here) as parameters, pytest.raises(BadInput) as caught:
        line_to(parameters, there, "later")
    assert "'later' has other parameters: a.weight is (4, 2) there and (3, 2) here" in str(caught.value)
    assert "b.weight is not in it" in str(caught.value)


def test_a_checkpoint_with_the_same_weights_gives_no_direction():
    here = torch.nn.Linear(2, 3)
    with prepared(here) as parameters, pytest.raises(BadInput, match="has the same weights"):
        line_to(parameters, copy.deepcopy(here), "copy")
