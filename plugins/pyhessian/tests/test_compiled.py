"""Traced products against the exact float64 Hessian."""

from __future__ import annotations

import pytest
import torch
from atlas_pyhessian.operators import HessianOperator, IteratingOperator, iterating
from atlas_pyhessian.operators.compiled import CompiledOperator, coarse
from atlas_pyhessian.operators.traced import Untraceable, align_products, trace_product
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos

from atlas.errors import BadInput


def _close(observed: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> bool:
    return float(torch.linalg.norm(observed - expected)) <= tolerance * float(torch.linalg.norm(expected))


@pytest.mark.parametrize("name", ["mlp", "gpt2", "llama", "gpt_neox"])
def test_a_traced_product_is_the_exact_hessians(problem_and_hessian, name):
    problem, exact = problem_and_hessian(name)
    vector = torch.linspace(-1, 1, len(exact), dtype=torch.float64)
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=False)
        program = trace_product(operator.second_backward(), torch.ones(len(exact), dtype=torch.float64))
    assert _close(program(vector), exact @ vector)


def test_padding_matrix_products_to_whole_multiples_changes_no_product(problem_and_hessian):
    problem, exact = problem_and_hessian("gpt2")
    vector = torch.linspace(-1, 1, len(exact), dtype=torch.float64)
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=False)
        program = trace_product(operator.second_backward(), vector)
    align_products(program, 5)
    shapes = []

    class Shapes(torch.fx.Interpreter):
        def run_node(self, n):
            if n.target is torch.ops.aten.mm.default:
                shapes.extend(self.env[operand].shape[1] % 5 for operand in n.args)
            return super().run_node(n)

    observed = Shapes(program).run(vector)
    assert _close(observed, exact @ vector)
    assert len(shapes) > 20
    assert set(shapes) == {0}


@pytest.mark.parametrize("name", ["mlp", "gpt2", "llama", "gpt_neox"])
def test_a_second_backward_is_the_exact_hessians(problem_and_hessian, name):
    """Unused parameters, tied weights and unequal micro-batches included; float32 inside Llama's norm."""
    problem, exact = problem_and_hessian(name)
    torch.manual_seed(0)
    vector = torch.randn(len(exact), dtype=torch.float64)
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=False)
        compiled = CompiledOperator(operator, tf32=True)
        observed = compiled.matvec(vector)
    assert _close(observed, exact @ vector)
    assert compiled.agreement <= 1e-12
    assert compiled.num_matvecs == 1


def test_forward_and_first_backward_run_once_for_fast_and_exact_products(problem_and_hessian):
    problem, _ = problem_and_hessian("gpt2")
    calls = []
    handle = problem.module.register_forward_hook(lambda *_: calls.append(1))
    try:
        with prepared(problem.module) as parameters:
            operator = HessianOperator(parameters, problem.loss_sum, problem.batches[:1], retain_graph=True)
            compiled = CompiledOperator(operator, tf32=False)
            for index in range(3):
                vector = torch.full((operator.size,), float(index + 1), dtype=torch.float64)
                compiled.matvec(vector)
                operator.matvec(vector)
    finally:
        handle.remove()
    assert len(calls) == 1


def test_memory_that_is_written_and_read_again_is_refused():
    def product(vector: torch.Tensor) -> torch.Tensor:
        doubled = vector * 2
        half = doubled[:2]
        half.add_(1.0)
        return doubled * 3

    with pytest.raises(Untraceable, match="read again"):
        trace_product(product, torch.ones(4))


def test_gradients_that_are_added_in_place_become_sums(problem_and_hessian):
    """Autograd accumulates in place; replaying that on kept memory would add up from call to call."""
    problem, exact = problem_and_hessian("gpt2")
    vector = torch.ones(len(exact), dtype=torch.float64)
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=False)
        program = trace_product(operator.second_backward(), vector)
    written = [
        str(node.target)
        for node in program.graph.nodes
        if node.op == "call_function" and getattr(getattr(node.target, "_schema", None), "is_mutable", False)
    ]
    assert written == []
    with torch.no_grad():
        assert torch.equal(program(vector), program(vector))


def test_what_is_iterated_with_is_certified_by_exact_products(problem_and_hessian, probes):
    """Coarse by 1e-4 of ||H||: the certificate holds for the exact matrix, and all products count."""
    problem, exact = problem_and_hessian("gpt2")
    notes: list[str] = []
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=True)
        both = IteratingOperator(operator, "tf32-graph", notes.append)
        draws = probes(len(exact))
        both.repeated_matvec(draws.rademacher("start", 0))
        both.matvec(draws.rademacher("start", 0))
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(len(exact), generator=generator, dtype=torch.float64)
        truth = torch.linalg.eigvalsh(exact)
        norm = float(truth.abs().max())
        fast = both._fast.matvec
        both._fast.matvec = lambda vector, out=None: fast(vector, out=out).add_(
            noise * (1e-4 * norm * float(noise @ vector) / float(noise @ noise))
        )
        spectrum = thick_restart_lanczos(
            both,
            lambda index: draws.rademacher("start", index),
            EigenRequest(top_k=3, tolerance=1e-6),
            certifier=both.certifier,
        )
    assert notes[0].startswith("tf32-graph; a product of random signs is ")
    assert all(spectrum.converged)
    for value, residual in zip(spectrum.values, spectrum.residual_norms, strict=True):
        assert float((truth - value).abs().min()) <= residual + 1e-12 * norm
    assert both.num_matvecs == operator.num_matvecs + both._fast.num_matvecs


def test_a_coarse_product_is_linearised_where_the_exact_one_is(problem_and_hessian):
    """Rounded activations would stay in a retained graph, and certificates with it."""
    problem, exact = problem_and_hessian("gpt2")
    rounded = []
    problem.module.register_forward_hook(lambda *_: rounded.append(torch.backends.cuda.matmul.allow_tf32))
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=True)
        coarse(operator).matvec(torch.ones(len(exact), dtype=torch.float64))
    assert set(rounded) == {False}


def test_exact_products_from_a_graph_need_no_certifier(problem_and_hessian):
    problem, exact = problem_and_hessian("mlp")
    vector = torch.linspace(-1, 1, len(exact), dtype=torch.float64)
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=True)
        replayed = IteratingOperator(operator, "exact-graph", print)
        assert _close(replayed.matvec(vector), exact @ vector)
    assert replayed.certifier is None


@pytest.mark.parametrize("products", ["exact-graph", "tf32", "tf32-graph", "tf32-fused"])
def test_faster_products_are_refused_where_there_are_none(problem_and_hessian, products):
    problem, _ = problem_and_hessian("mlp")
    with prepared(problem.module) as parameters:
        operator = HessianOperator(parameters, problem.loss_sum, problem.batches, retain_graph=True)
        assert iterating(operator, "auto", num_batches=2, note=print) is operator
        with pytest.raises(BadInput, match="CUDA device"):
            iterating(operator, products, num_batches=2, note=print)
