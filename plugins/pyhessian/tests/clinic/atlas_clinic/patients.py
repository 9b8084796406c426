"""Networks of a few hundred parameters; an ailment changes one thing of the healthy one."""

from __future__ import annotations

import time

import torch
from torch.autograd.function import once_differentiable

from atlas.contracts import Batch

WIDTH, CLASSES = 6, 3


class Once(torch.autograd.Function):
    """A square whose backward is marked as not to be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


class Opaque(torch.autograd.Function):
    """A square whose backward goes through numpy and says nothing of it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * torch.from_numpy(ctx.saved_tensors[0].detach().numpy().copy())


class Twice(torch.autograd.Function):
    """A square whose backward can be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


SQUARES = {
    "once differentiable": Once.apply,
    "opaque": Opaque.apply,
    "twice differentiable": Twice.apply,
    "composite square": torch.square,
}


class Patient:
    """A target; `name` says what ails it."""

    def __init__(self, name: str, delay_s: float = 0.0) -> None:
        torch.manual_seed(4)
        self.name, self.delay_s = name, delay_s
        self.facts = {"patient": name}
        self.module = torch.nn.ModuleDict(
            {
                "first": torch.nn.Linear(WIDTH, 3 * WIDTH),
                "last": torch.nn.Linear(3 * WIDTH, CLASSES),
            }
        ).double()
        if name == "mixed dtypes":
            self.module["last"].float()
        if name == "integer parameters":
            counts = torch.nn.Parameter(torch.arange(4), requires_grad=False)
            self.module["first"].register_parameter("counts", counts)
        if name == "unused parameter":
            self.module["spare"] = torch.nn.Linear(2, 2).double()
        if name == "tied":
            self.module["again"] = self.module["last"]

    def batches(self, items, *, batch_size, max_tokens):
        """One input an item, drawn from its text; a text of n words weighs n - 1."""
        made = []
        for start in range(0, len(items), batch_size):
            part = items[start : start + batch_size]
            rows = [[(len(i.text) * 7 + 3 * j) % 11 / 5 - 1 for j in range(WIDTH)] for i in part]
            weight = sum(max(0, len(item.text.split()) - 1) for item in part)
            inputs = {"x": torch.tensor(rows, dtype=torch.float64)}
            made.append(Batch(inputs, float(weight), tuple(item.id for item in part)))
        return made

    def loss_sum(self, batch):
        """Cross-entropy of a small network, or what is left of it."""
        time.sleep(self.delay_s)
        x, weights = batch.inputs["x"], [p for p in self.module.parameters() if p.is_floating_point()]
        if self.name == "constant loss":
            return torch.ones((), dtype=torch.float64)
        if self.name == "linear loss":
            return 10 + 0.01 * sum(p.sum() for p in weights)
        if self.name == "nan loss" and "text-2" in " ".join(batch.item_ids):
            return weights[0].sum() * float("nan")
        hidden = self.module["first"](x)
        hidden = self._bent(hidden)
        logits = self.module["last"](hidden.to(self.module["last"].weight.dtype)).double()
        labels = torch.arange(len(x)) % CLASSES
        if self.name in SQUARES:
            return batch.weight * SQUARES[self.name](logits).sum()
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") * batch.weight / len(x)
        if self.name == "nan gradient":
            loss = loss + (weights[1] - weights[1].detach()).abs().sqrt().sum()
        if self.name == "nan product":
            loss = loss + (weights[1] - weights[1].detach()).abs().pow(1.5).sum()
        return loss

    def _bent(self, hidden):
        if self.name == "dropout":
            return torch.nn.functional.dropout(torch.tanh(hidden), 0.3, training=True)
        if self.name == "flash attention":
            heads = hidden.float().view(1, 1, -1, 3 * WIDTH)
            kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            return kernel(heads, heads, heads)[0].view(-1, 3 * WIDTH).double()
        return torch.tanh(hidden)
