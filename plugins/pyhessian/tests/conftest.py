"""Oracles: exact float64 Hessians of small models, and matrices with prescribed spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from atlas_pyhessian.probes import Probes
from attrs import define, frozen

from atlas.contracts import Batch
from atlas.randomness import RandomStreams

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the tests learn of the machine out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATLAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@define
class DenseOperator:
    """A symmetric matrix behind the operator interface."""

    matrix: torch.Tensor
    num_matvecs: int = 0

    @property
    def size(self) -> int:
        return self.matrix.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.matrix.dtype

    @property
    def device(self) -> torch.device:
        return self.matrix.device

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        self.num_matvecs += 1
        return torch.mv(self.matrix, vector, out=out)


@frozen
class Problem:
    """A module, its batches and its loss; `hessian` is the oracle, by rows of a double backward."""

    module: torch.nn.Module
    batches: tuple[Batch, ...]
    loss_sum: Callable[[Batch], torch.Tensor]

    def mean_loss(self) -> torch.Tensor:
        total = sum(batch.weight for batch in self.batches)
        return sum(self.loss_sum(batch) for batch in self.batches) / total

    def hessian(self) -> torch.Tensor:
        parameters = list(self.module.parameters())
        gradients = torch.autograd.grad(self.mean_loss(), parameters, create_graph=True, allow_unused=True)
        flat = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).reshape(-1)
                for p, g in zip(parameters, gradients, strict=True)
            ]
        )
        rows = []
        for directions in torch.eye(len(flat), dtype=flat.dtype).split(128):
            parts = torch.autograd.grad(
                flat, parameters, directions, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
            rows.append(
                torch.cat(
                    [
                        p.new_zeros(len(directions), p.numel()) if g is None else g.flatten(1)
                        for p, g in zip(parameters, parts, strict=True)
                    ],
                    dim=1,
                )
            )
        matrix = torch.cat(rows).detach()
        return (matrix + matrix.T) / 2


def causal_lm(name: str) -> torch.nn.Module:
    """Return a tiny, randomly initialised language model in float64, weights tied where its kind does."""
    import transformers as hf

    shared = {"vocab_size": 13, "attn_implementation": "eager"}
    config = {
        "gpt2": lambda: hf.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=8, **shared),
        "llama": lambda: hf.LlamaConfig(
            hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=8, tie_word_embeddings=True, **shared,
        ),
        "gpt_neox": lambda: hf.GPTNeoXConfig(
            hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=8, **shared,
        ),
    }[name]()  # fmt: skip
    torch.manual_seed(5)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape)
    return model.double().eval()


def language_problem(name: str, *, lengths: tuple[int, ...] = (6, 4, 3)) -> Problem:
    """Return a tiny model on one micro-batch per length: unequal numbers of scored tokens."""
    module = causal_lm(name)
    generator = torch.Generator().manual_seed(9)
    batches = tuple(
        Batch(
            {"input_ids": torch.randint(0, 11, (1, length), generator=generator)},
            float(length - 1),
            (f"item-{length}",),
        )
        for length in lengths
    )

    def loss_sum(batch: Batch) -> torch.Tensor:
        ids = batch.inputs["input_ids"]
        logits = module(input_ids=ids, use_cache=False).logits[:, :-1].double()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")

    return Problem(module, batches, loss_sum)


def mlp_problem() -> Problem:
    """Return a small multilayer perceptron with a layer that its loss does not use."""
    torch.manual_seed(3)
    module = torch.nn.ModuleDict(
        {
            "first": torch.nn.Linear(5, 8),
            "unused": torch.nn.Linear(3, 4),
            "last": torch.nn.Linear(8, 3),
        }
    ).double()
    batches = tuple(
        Batch({"x": torch.randn(size, 5).double(), "y": torch.arange(size) % 3}, float(size))
        for size in (7, 2)
    )

    def loss_sum(batch: Batch) -> torch.Tensor:
        hidden = torch.tanh(module["first"](batch.inputs["x"]))
        return torch.nn.functional.cross_entropy(module["last"](hidden), batch.inputs["y"], reduction="sum")

    return Problem(module, batches, loss_sum)


_PROBLEMS: dict[str, tuple[Problem, torch.Tensor]] = {}


def build_problem(name: str) -> tuple[Problem, torch.Tensor]:
    """Return a problem by name with its exact Hessian, computed once."""
    if name not in _PROBLEMS:
        problem = mlp_problem() if name == "mlp" else language_problem(name)
        _PROBLEMS[name] = (problem, problem.hessian())
    return _PROBLEMS[name]


@pytest.fixture
def problem_and_hessian() -> Callable[[str], tuple[Problem, torch.Tensor]]:
    """Build a problem by name: mlp, gpt2, llama or gpt_neox."""
    return build_problem


@pytest.fixture
def dense() -> Callable[..., DenseOperator]:
    """Build an operator with a prescribed spectrum in random coordinates."""

    def build(
        spectrum: list[float] | torch.Tensor, *, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> DenseOperator:
        values = torch.as_tensor(spectrum, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
        vectors = torch.linalg.qr(noise)[0]
        matrix = (vectors * values) @ vectors.T
        return DenseOperator(((matrix + matrix.T) / 2).to(dtype))

    return build


@pytest.fixture
def probes() -> Callable[..., Probes]:
    """Build probes for vectors of a given length."""

    def build(size: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Probes:
        return Probes(RandomStreams(seed), ("all",), (size,), dtype, torch.device("cpu"))

    return build
