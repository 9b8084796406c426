"""Hessian products against the exact float64 Hessian, and what a measurement leaves behind."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.preparation import prepared
from torch.nn.attention import SDPBackend, sdpa_kernel

from atlas.contracts import Batch
from atlas.errors import BadInput, InstrumentFailed

MODELS = ["mlp", "gpt2", "llama", "gpt_neox"]


@pytest.mark.parametrize("retain_graph", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_products_equal_the_exact_token_weighted_hessian(problem_and_hessian, name, retain_graph):
    """Micro-batches of unequal weight, tied weights and unused parameters included.

    The tolerance is the float32 rounding inside Llama's norm and the softmax of attention.
    """
    problem, exact = problem_and_hessian(name)
    torch.manual_seed(0)
    vector = torch.randn(len(exact), dtype=torch.float64)
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=retain_graph)
        observed = [operator.matvec(vector) for _ in range(2)]
    expected = exact @ vector
    for product in observed:
        assert torch.linalg.norm(product - expected) <= 1e-6 * torch.linalg.norm(expected)
    assert operator.num_matvecs == 2


def test_loss_and_gradient_are_token_weighted(problem_and_hessian):
    problem, _ = problem_and_hessian("gpt2")
    loss = problem.mean_loss()
    gradients = torch.autograd.grad(loss, list(problem.module.parameters()))
    expected = float(sum((g**2).sum() for g in gradients)) ** 0.5
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=False)
        facts = operator.facts()
        assert operator.losses() == pytest.approx(facts.batch_losses, rel=1e-6)
    assert facts.loss == pytest.approx(loss.item(), rel=1e-6)
    assert facts.gradient_norm == pytest.approx(expected, rel=1e-6)
    assert facts.weight == 10.0


def test_a_filter_gives_the_block_of_the_exact_hessian(problem_and_hessian):
    problem, exact = problem_and_hessian("mlp")
    with prepared(problem.module, include=["last.*"]) as parameters:
        assert parameters.names == ("last.weight", "last.bias")
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=True)
        rows = [operator.matvec(row) for row in torch.eye(27, dtype=torch.float64)]
    assert torch.allclose(torch.stack(rows), exact[-27:, -27:], atol=1e-12)


def test_a_filter_that_matches_nothing_is_refused(problem_and_hessian):
    problem, _ = problem_and_hessian("mlp")
    with (
        pytest.raises(BadInput, match=r"'lst\.\*' matches no parameter"),
        prepared(problem.module, include=["last.*", "lst.*"]),
    ):
        pass


@pytest.mark.parametrize("retain_graph", [True, False])
def test_nothing_is_left_on_the_module(retain_graph):
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5))
    first, second = module[0].weight, module[0].bias
    second.requires_grad_(False)
    first.grad = kept = torch.ones_like(first)
    batch = Batch({"x": torch.randn(2, 3)}, 2.0)
    with prepared(module, dtype=torch.float64) as parameters:
        assert not module.training
        operator = HessianOperator(
            parameters,
            lambda b: module(b.inputs["x"].double()).square().sum(),
            [batch],
            retain_graph=retain_graph,
        )
        result = operator.matvec(torch.ones(12, dtype=torch.float64))
        assert result.dtype is torch.float64
        assert [p.grad for p in module.parameters()] == [None, None]
    assert module.training
    assert module[1].training
    assert first.dtype is torch.float32
    assert first.grad is kept
    assert (first.requires_grad, second.requires_grad) == (True, False)


@pytest.mark.parametrize("retain_graph", [True, False])
def test_a_measured_module_dies_with_its_last_reference(retain_graph):
    def measured() -> weakref.ref[torch.nn.Module]:
        module = torch.nn.Linear(3, 3)
        with prepared(module) as parameters:
            operator = HessianOperator(
                parameters,
                lambda batch: module(batch.inputs["x"]).square().sum(),
                [Batch({"x": torch.ones(2, 3)}, 2.0)],
                retain_graph=retain_graph,
            )
            operator.repeated_matvec(torch.ones(12))
        return weakref.ref(module)

    gc.disable()
    try:
        assert measured()() is None, "a reference cycle holds the module"
    finally:
        gc.enable()


def test_attention_is_eager_while_measured_and_restored_afterwards(problem_and_hessian):
    problem, exact = problem_and_hessian("llama")
    problem.module.set_attn_implementation("sdpa")
    try:
        with prepared(problem.module) as parameters:
            assert problem.module.config._attn_implementation == "eager"
            operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=False)
            vector = torch.ones(len(exact), dtype=torch.float64)
            assert torch.allclose(operator.matvec(vector), exact @ vector, atol=1e-5)
        assert problem.module.config._attn_implementation == "sdpa"
    finally:
        problem.module.set_attn_implementation("eager")


def test_a_loss_that_samples_is_refused(problem_and_hessian):
    problem, exact = problem_and_hessian("mlp")

    def noisy(batch: Batch) -> torch.Tensor:
        noise = torch.nn.functional.dropout(batch.inputs["x"], 0.5, training=True)
        return problem.loss_sum(Batch({**batch.inputs, "x": noise}, batch.weight))

    vector = torch.ones(len(exact), dtype=torch.float64)
    for retain_graph in (True, False):
        with prepared(problem.module) as parameters:
            honest = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=retain_graph)
            assert torch.equal(honest.repeated_matvec(vector), honest.matvec(vector))
            operator = HessianOperator(parameters, noisy, problem.batches, retain_graph=retain_graph)
            with pytest.raises(BadInput, match="not deterministic"):
                operator.repeated_matvec(vector)


@pytest.mark.parametrize(
    ("power", "message"),
    [
        (lambda w: w.sum() / 0.0, "the loss is"),
        (lambda w: (w - w).abs().sqrt().sum(), "the gradient by weight is not finite"),
    ],
)
def test_a_non_finite_loss_or_gradient_names_its_batch(power, message):
    module = torch.nn.Linear(2, 1, bias=False)
    batches = [Batch({}, 1.0, ("good",)), Batch({}, 1.0, ("bad",))]

    def loss_sum(batch: Batch) -> torch.Tensor:
        weight = module.weight
        return weight.square().sum() if batch.item_ids == ("good",) else power(weight)

    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, batches, retain_graph=False)
        with pytest.raises(InstrumentFailed, match=message) as caught:
            operator.facts()
    assert str(caught.value).startswith("batch 1 (bad)")


def test_a_non_finite_product_names_its_batch_and_parameter():
    module = torch.nn.Linear(2, 1)
    torch.nn.init.zeros_(module.bias)
    batches = [Batch({}, 1.0, ("good",)), Batch({}, 1.0, ("bad",))]

    def loss_sum(batch: Batch) -> torch.Tensor:
        smooth = module.weight.square().sum()
        return smooth if batch.item_ids == ("good",) else module.bias.abs().pow(1.5).sum()

    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, batches, retain_graph=True)
        operator.facts()
        with pytest.raises(InstrumentFailed, match=r"batch 1 \(bad\): .* at bias"):
            operator.matvec(torch.ones(3))


def test_a_loss_linear_in_a_parameter_has_zero_curvature_there():
    module = torch.nn.Linear(3, 1, bias=False)
    with prepared(module) as parameters:
        operator = HessianOperator(
            parameters, lambda b: module.weight.sum(), [Batch({}, 1.0)], retain_graph=True
        )
        assert operator.matvec(torch.ones(3)).tolist() == [0.0, 0.0, 0.0]


def test_a_fused_kernel_without_double_backward_is_refused_with_the_way_out():
    module = torch.nn.Linear(4, 4, bias=False)

    def loss_sum(batch: Batch) -> torch.Tensor:
        heads = module(torch.ones(1, 1, 3, 4))
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(heads, heads, heads).sum()

    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, [Batch({}, 1.0)], retain_graph=False)
        with pytest.raises(BadInput, match=r"no double backward(.|\n)*eager"):
            operator.matvec(torch.ones(16))
