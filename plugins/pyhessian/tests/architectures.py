"""Six architectures small enough for an exact Hessian, each with its loss, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from attrs import frozen

from atlas.contracts import Batch

__all__ = ["ARCHITECTURES", "TOLERANCES", "Case", "exact_hessian"]


@frozen
class Case:
    """A module in evaluation mode, two batches of unequal weight, and the loss summed over a batch."""

    module: torch.nn.Module
    batches: tuple[Batch, ...]
    loss_sum: Callable[[Batch], torch.Tensor]

    def mean_loss(self) -> torch.Tensor:
        """Return the loss whose Hessian is meant."""
        total = sum(batch.weight for batch in self.batches)
        return torch.stack([self.loss_sum(batch) for batch in self.batches]).sum() / total


class Recurrent(torch.nn.Module):
    """A GRU and an LSTM one after the other, read at the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(4, 6, batch_first=True)
        self.lstm = torch.nn.LSTM(6, 5, batch_first=True)
        self.head = torch.nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits `[B, 3]` of sequences `[B, T, 4]`."""
        return self.head(self.lstm(self.gru(x)[0])[0][:, -1])


def _classifier(module: torch.nn.Module, shape: tuple[int, ...]) -> Case:
    """Classify two batches of random inputs of a shape; batch-norm has seen others before."""
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    module = module.double().eval()
    batches = tuple(
        Batch({"x": torch.randn(size, *shape, dtype=torch.float64), "y": torch.arange(size) % 3}, float(size))
        for size in (5, 2)
    )

    def loss_sum(batch: Batch) -> torch.Tensor:
        x = batch.inputs["x"].to(next(module.parameters()).dtype)
        return torch.nn.functional.cross_entropy(module(x).double(), batch.inputs["y"], reduction="sum")

    return Case(module, batches, loss_sum)


def _language(model: torch.nn.Module, *, masked: bool) -> Case:
    """Predict tokens of two sequences: the next ones, or those that were masked."""
    model = model.double().eval()
    ids = [torch.randint(1, 12, (1, length)) for length in (6, 4)]
    batches = tuple(
        Batch({"ids": row}, float(row.shape[1] // 2 if masked else row.shape[1] - 1)) for row in ids
    )

    def loss_sum(batch: Batch) -> torch.Tensor:
        row = batch.inputs["ids"]
        if masked:
            hidden = torch.arange(row.shape[1]) % 2 == 1
            logits = model(input_ids=torch.where(hidden, 0, row)).logits[:, hidden]
            labels = row[:, hidden]
        else:
            logits, labels = model(input_ids=row, use_cache=False).logits[:, :-1], row[:, 1:]
        flat = logits.double().flatten(0, 1)
        return torch.nn.functional.cross_entropy(flat, labels.flatten(), reduction="sum")

    return Case(model, batches, loss_sum)


def _scaled(model: torch.nn.Module) -> torch.nn.Module:
    """Move the weights of a fresh model away from the near-zero ones that it is initialised with."""
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return model


def mlp() -> Case:
    """Return a perceptron with tanh."""
    layers = (torch.nn.Linear(8, 24), torch.nn.Tanh(), torch.nn.Linear(24, 16), torch.nn.Tanh())
    return _classifier(torch.nn.Sequential(*layers, torch.nn.Linear(16, 3)), (8,))


def cnn() -> Case:
    """Return a convolutional network with batch-norm in evaluation mode."""
    return _classifier(
        torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 3),
            torch.nn.BatchNorm2d(6),
            torch.nn.SiLU(),
            torch.nn.Conv2d(6, 8, 3),
            torch.nn.BatchNorm2d(8),
            torch.nn.Softplus(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(8, 3),
        ),
        (1, 8, 8),
    )


def recurrent() -> Case:
    """Return a GRU under an LSTM."""
    return _classifier(Recurrent(), (5, 4))


_SHARED = {"vocab_size": 13, "attn_implementation": "eager", "bos_token_id": 1, "eos_token_id": 2}


def gpt2() -> Case:
    """Return GPT-2: learned positions, GELU, tied embedding."""
    import transformers as hf

    config = hf.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=8, **_SHARED)
    return _language(_scaled(hf.GPT2LMHeadModel(config)), masked=False)


def llama() -> Case:
    """Return Llama: rotary positions, SiLU gates, grouped queries, tied embedding."""
    import transformers as hf

    config = hf.LlamaConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=8, tie_word_embeddings=True,
        **_SHARED,
    )  # fmt: skip
    return _language(_scaled(hf.LlamaForCausalLM(config)), masked=False)


def bert() -> Case:
    """Return BERT with masked tokens."""
    import transformers as hf

    config = hf.BertConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, type_vocab_size=1, **_SHARED,
    )  # fmt: skip
    return _language(_scaled(hf.BertForMaskedLM(config)), masked=True)


_BUILDERS = {"mlp": mlp, "cnn": cnn, "recurrent": recurrent, "gpt2": gpt2, "llama": llama, "bert": bert}


def _seeded(name: str) -> Case:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20261122)
        return _BUILDERS[name]()


ARCHITECTURES: Mapping[str, Callable[[], Case]] = {
    name: (lambda name=name: _seeded(name)) for name in _BUILDERS
}
"""Builds a case by name, the same one each time."""

TOLERANCES = {"llama": 1e-6}
"""Residuals where 1e-8 cannot be had in float64: Llama's norm works in float32 whatever it is given."""


def exact_hessian(case: Case) -> torch.Tensor:
    """Return the float64 Hessian `[n, n]` of the mean loss over all its parameters, 64 rows at a time."""
    parameters = list(case.module.parameters())
    gradients = torch.autograd.grad(case.mean_loss(), parameters, create_graph=True, materialize_grads=True)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    rows = []
    for directions in torch.eye(len(flat), dtype=flat.dtype).split(64):
        parts = torch.autograd.grad(
            flat, parameters, directions, retain_graph=True, materialize_grads=True, is_grads_batched=True
        )
        rows.append(torch.cat([part.flatten(1) for part in parts], dim=1))
    matrix = torch.cat(rows).detach()
    return (matrix + matrix.T) / 2
