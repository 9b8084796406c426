"""The memory-lean cross-entropy against PyTorch's, and against finite differences of itself."""

from __future__ import annotations

import weakref

import pytest
import torch
from atlas_huggingface import cross_entropy
from atlas_huggingface.cross_entropy import cross_entropy_sum
from torch.autograd.graph import get_gradient_edge
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SKIP = -100


@pytest.fixture(params=[9, 1 << 18], ids=["in chunks", "at once"])
def _chunked(request, monkeypatch):
    monkeypatch.setattr(cross_entropy, "_CHUNK", request.param)


def problem(rows=5, classes=4, dtype=torch.float64, spread=3.0):
    generator = torch.Generator().manual_seed(0)
    logits = (spread * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)
    targets = torch.randint(classes, (rows,), generator=generator)
    targets[1] = SKIP
    return logits.requires_grad_(), targets


def pytorch(logits, targets):
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(wide, targets, ignore_index=SKIP, reduction="sum")


def ours(logits, targets):
    return cross_entropy_sum(logits, targets, ignore_index=SKIP)


def twice(loss, logits, targets, vector):
    """Value, gradient and Hessian product, by the edge of the gradient as the Hessian operator takes it."""
    value = loss(logits, targets)
    (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
    logits.grad = None
    torch.autograd.backward([get_gradient_edge(gradient)], [vector], inputs=[logits])
    return value.detach(), gradient.detach(), logits.grad


@pytest.mark.usefixtures("_chunked")
def test_first_and_second_derivatives_are_those_of_finite_differences():
    logits, targets = problem()
    scale = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)

    def loss(z, s):
        return s * ours(z, targets)

    assert torch.autograd.gradcheck(loss, (logits, scale))
    assert torch.autograd.gradgradcheck(loss, (logits, scale))


@pytest.mark.usefixtures("_chunked")
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # A few roundings of the dtype in which the result is stored, relative to the largest number.
    [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)],
)
def test_values_are_those_of_pytorch_to_rounding(dtype, tolerance):
    logits, targets = problem(40, 11, dtype)
    vector = torch.randn(40, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    for mine, theirs in zip(
        twice(ours, logits, targets, vector), twice(pytorch, logits, targets, vector), strict=True
    ):
        assert mine.dtype == theirs.dtype
        assert float((mine - theirs).abs().max() / theirs.abs().max()) < tolerance


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_logits_far_from_zero_neither_overflow_nor_lose_the_loss(logit):
    logits = torch.tensor([[logit, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([2])
    for mine, theirs in zip(
        twice(ours, logits, target, torch.ones_like(logits)),
        twice(pytorch, logits, target, torch.ones_like(logits)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("rows", [0, 3])
def test_without_a_scored_row_everything_is_zero(rows):
    logits = torch.full((rows, 4), float("inf"), requires_grad=True)
    for found in twice(ours, logits, torch.full((rows,), SKIP), torch.ones(rows, 4)):
        assert torch.equal(found, torch.zeros_like(found))


def test_leading_dimensions_are_all_samples():
    logits, targets = problem(6, 4)
    assert ours(logits.reshape(2, 3, 4), targets.reshape(2, 3)) == ours(logits, targets)


def test_a_traced_product_is_the_product():
    logits, targets = problem()
    (gradient,) = torch.autograd.grad(ours(logits, targets), logits, create_graph=True)

    def product(vector):
        return torch.autograd.grad(gradient, logits, vector, retain_graph=True)[0]

    traced = make_fx(product)(torch.ones_like(logits))
    vector = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(traced(vector), product(vector), rtol=1e-14, atol=1e-14)
    assert not [n for n in traced.graph.nodes if str(n.target).startswith("aten.copy_")]


class Storages(TorchDispatchMode):
    """Counts the bytes of storages that operations made and that live."""

    def __init__(self):
        super().__init__()
        self.live, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in self.live:
                storage = leaf.untyped_storage()
                self.live[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return result


def memory(loss):
    """Bytes kept between products, and at most during one, in copies of the logits."""
    given, targets = problem(64, 20_000, torch.float32)
    size = given.numel() * given.element_size()
    with Storages() as storages:
        logits = given * 1.0
        (gradient,) = torch.autograd.grad(loss(logits, targets), given, create_graph=True)
        edge = get_gradient_edge(gradient)
        del gradient, logits
        kept = sum(storages.live.values()) / size
        storages.peak = 0
        vector = torch.ones(64, 20_000)
        torch.autograd.backward([edge], [vector], inputs=[given], retain_graph=True)
        return kept, storages.peak / size


def test_no_copy_of_the_logits_is_kept_and_a_product_makes_one(monkeypatch):
    monkeypatch.setattr(cross_entropy, "_CHUNK", 20_000)  # one row of 64
    kept, most = memory(ours)
    assert kept == pytest.approx(1.0, abs=0.01)  # the logits themselves
    # The logits, the vector, the vector scaled on its way in, the result, and one chunk.
    assert most == pytest.approx(4.0, abs=0.15)
    kept_by_pytorch, most_by_pytorch = memory(pytorch)
    assert (kept_by_pytorch - kept, most_by_pytorch - most) > (0.9, 2.0)
