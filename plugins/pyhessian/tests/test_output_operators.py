"""Gauss-Newton and empirical Fisher products against Jacobians in float64, and against another library."""

from __future__ import annotations

import pytest
import torch
from atlas_pyhessian.operators import HessianOperator, empirical_fisher, gauss_newton, through_outputs
from atlas_pyhessian.preparation import prepared
from attrs import frozen

from atlas.contracts import Batch
from atlas.errors import BadInput, InstrumentFailed

MODELS = ["mlp", "gpt2", "llama", "gpt_neox"]
KINDS = ["gauss_newton", "empirical_fisher"]


@frozen
class Split:
    """A problem whose loss is cut at its outputs; `dims` count samples."""

    module: torch.nn.Module
    batches: tuple[Batch, ...]
    outputs: object
    output_loss: object
    dims: int

    def operator(self, kind, parameters, *, retain_graph=True, batches=None):
        forward = through_outputs(self.outputs, self.output_loss)
        given = batches or self.batches
        if kind == "gauss_newton":
            return gauss_newton(parameters, forward, given, retain_graph=retain_graph)
        return empirical_fisher(parameters, forward, given, sample_dims=self.dims, retain_graph=retain_graph)

    def exact(self, kind):
        """`J^T M J / weight` from a Jacobian by rows and M written out, by definition."""
        parameters = list(self.module.parameters())
        total = 0.0
        for batch in self.batches:
            outputs = self.outputs(batch)
            flat = outputs.reshape(-1)
            rows = torch.autograd.grad(
                flat, parameters, torch.eye(len(flat), dtype=flat.dtype), is_grads_batched=True,
                allow_unused=True, retain_graph=True,
            )  # fmt: skip
            jacobian = torch.cat(
                [
                    flat.new_zeros(len(flat), p.numel()) if row is None else row.flatten(1)
                    for p, row in zip(parameters, rows, strict=True)
                ],
                dim=1,
            )
            free = outputs.detach().requires_grad_()
            if kind == "gauss_newton":
                middle = torch.autograd.functional.hessian(
                    lambda z, batch=batch: self.output_loss(z, batch), free
                ).reshape(len(flat), len(flat))
                total = total + jacobian.T @ middle @ jacobian
            else:
                (gradient,) = torch.autograd.grad(self.output_loss(free, batch), free)
                samples = outputs.shape[: self.dims].numel()
                weighted = (gradient.reshape(-1, 1) * jacobian).reshape(samples, -1, jacobian.shape[1])
                by_sample = weighted.sum(1)
                total = total + by_sample.T @ by_sample
        return (total / sum(batch.weight for batch in self.batches)).detach()


@pytest.fixture
def split(problem_and_hessian):
    def cut(name: str) -> Split:
        problem, _ = problem_and_hessian(name)
        module = problem.module

        def classes(batch):
            return module["last"](torch.tanh(module["first"](batch.inputs["x"])))

        def class_loss(outputs, batch):
            return torch.nn.functional.cross_entropy(outputs, batch.inputs["y"], reduction="sum")

        def tokens(batch):
            return module(input_ids=batch.inputs["input_ids"], use_cache=False).logits[:, :-1]

        def token_loss(outputs, batch):
            targets = batch.inputs["input_ids"][:, 1:].flatten()
            return torch.nn.functional.cross_entropy(outputs.flatten(0, 1), targets, reduction="sum")

        if name == "mlp":
            return Split(module, problem.batches, classes, class_loss, 1)
        return Split(module, problem.batches, tokens, token_loss, 2)

    return cut


@pytest.mark.parametrize("retain_graph", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_products_equal_the_jacobian_sandwich(split, name, kind, retain_graph):
    """Uneven batches, tied weights, unused parameters and SiLU included.

    The tolerance is the float32 rounding inside Llama's norm and the softmax of attention.
    """
    case = split(name)
    exact = case.exact(kind)
    torch.manual_seed(0)
    vector = torch.randn(len(exact), dtype=torch.float64)
    with prepared(case.module) as parameters:
        operator = case.operator(kind, parameters, retain_graph=retain_graph)
        products = [operator.matvec(vector) for _ in range(2)]
    expected = exact @ vector
    for product in products:
        assert torch.linalg.norm(product - expected) <= 1e-6 * torch.linalg.norm(expected)
    assert torch.equal(*products)
    assert operator.num_matvecs == 2


@pytest.mark.parametrize("kind", KINDS)
def test_quadratic_forms_are_not_negative_and_the_matrix_is_symmetric(split, kind):
    """Up to float64 rounding."""
    case = split("mlp")
    with prepared(case.module) as parameters:
        operator = case.operator(kind, parameters)
        identity = torch.eye(operator.size, dtype=torch.float64)
        matrix = torch.stack([operator.matvec(row) for row in identity])
    values = torch.linalg.eigvalsh(matrix)
    assert torch.allclose(matrix, matrix.T, atol=1e-14)
    assert values[0] >= -1e-14 * values[-1]
    if kind == "empirical_fisher":
        assert int((values > 1e-12 * values[-1]).sum()) <= 9, "more ranks than samples"


@pytest.mark.parametrize("activation", [torch.nn.Identity, torch.nn.ReLU])
def test_gauss_newton_is_the_hessian_of_what_is_linear_in_each_parameter(activation):
    """Of a linear model everywhere; of a ReLU net its last layer's block, and every layer's own block.

    A piecewise-linear net is linear in one layer with the others held, so that within a layer no
    curvature of the outputs is left (up to float64 rounding).
    """
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), activation(), torch.nn.Linear(6, 2)).double()
    batch = Batch({"x": torch.randn(9, 4).double(), "y": torch.randn(9, 2).double()}, 9.0)
    forward = through_outputs(
        lambda b: module(b.inputs["x"]), lambda z, b: (z - b.inputs["y"]).square().sum()
    )
    for include in (["0.*"], ["2.*"]):
        with prepared(module, include=include) as parameters:
            bent = HessianOperator(parameters, lambda b: forward(b)[1], [batch], retain_graph=True)
            straight = gauss_newton(parameters, forward, [batch], retain_graph=True)
            vector = torch.randn(bent.size, dtype=torch.float64)
            assert torch.allclose(straight.matvec(vector), bent.matvec(vector), atol=1e-13)


def test_a_filter_gives_the_block(split):
    case = split("mlp")
    exact = case.exact("gauss_newton")[-27:, -27:]
    with prepared(case.module, include=["last.*"]) as parameters:
        operator = case.operator("gauss_newton", parameters)
        rows = [operator.matvec(row) for row in torch.eye(27, dtype=torch.float64)]
    assert torch.allclose(torch.stack(rows), exact, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_the_hessian(split, problem_and_hessian, kind):
    case, (problem, _) = split("gpt2"), problem_and_hessian("gpt2")
    with prepared(case.module) as parameters:
        hessian = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=False)
        operator = case.operator(kind, parameters)
        assert operator.facts().loss == pytest.approx(hessian.facts().loss, rel=1e-12)
        assert operator.facts().gradient_norm == pytest.approx(hessian.facts().gradient_norm, rel=1e-12)
        assert operator.losses() == pytest.approx(hessian.losses(), rel=1e-12)


def test_a_loss_that_goes_around_the_outputs_is_refused(split):
    case = split("mlp")
    weight = case.module["first"].weight
    decayed = through_outputs(case.outputs, lambda z, b: case.output_loss(z, b) + weight.square().sum())
    detached = through_outputs(case.outputs, lambda z, b: case.output_loss(case.outputs(b), b))
    with prepared(case.module) as parameters:
        vector = torch.ones(parameters.size, dtype=torch.float64)
        for forward in (decayed, detached):
            operator = gauss_newton(parameters, forward, case.batches, retain_graph=False)
            with pytest.raises(BadInput, match=r"batch 0: the loss depends on (first|last)\.\w+ other than"):
                operator.matvec(vector)


def test_a_non_finite_product_names_matrix_batch_and_parameter():
    """|z|^1.5 has a finite loss and gradient at zero, and no second derivative there."""
    module = torch.nn.Linear(2, 1, bias=False).double()
    batches = [Batch({"x": torch.full((1, 2), x).double()}, 1.0, (str(x),)) for x in (1.0, 0.0)]
    forward = through_outputs(lambda b: module(b.inputs["x"]), lambda z, b: z.abs().pow(1.5).sum())
    with prepared(module) as parameters:
        operator = gauss_newton(parameters, forward, batches, retain_graph=True)
        with pytest.raises(InstrumentFailed, match=r"batch 1 \(0\.0\): the Gauss-Newton-vector product"):
            operator.matvec(torch.ones(2, dtype=torch.float64))


def test_more_sample_dimensions_than_the_outputs_have_are_refused(split):
    case = split("mlp")
    with prepared(case.module) as parameters:
        operator = empirical_fisher(
            parameters,
            through_outputs(case.outputs, case.output_loss),
            case.batches,
            sample_dims=3,
            retain_graph=False,
        )
        with pytest.raises(BadInput, match="2 dimensions, of which 3"):
            operator.matvec(torch.ones(operator.size, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_that_sample_are_refused(split, kind):
    case = split("mlp")

    def noisy(batch):
        return torch.nn.functional.dropout(case.outputs(batch), 0.5, training=True)

    broken = Split(case.module, case.batches, noisy, case.output_loss, case.dims)
    with prepared(case.module) as parameters:
        operator = broken.operator(kind, parameters)
        with pytest.raises(BadInput, match="not deterministic"):
            operator.repeated_matvec(torch.ones(operator.size, dtype=torch.float64))
