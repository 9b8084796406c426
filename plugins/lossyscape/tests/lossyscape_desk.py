"""A step's context for tests in this process: sealed nowhere, checked as the host checks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from atlas.contracts import Batch, Slice, StimulusItem
from atlas.randomness import RandomStreams
from atlas.tables import to_csv

CARD = Path(__file__).parents[1] / "src" / "atlas_lossyscape" / "atlas-plugin.yaml"


class Desk:
    """Takes what an instrument writes; its targets are the members of a series, or one without a label."""

    step, max_tokens, inputs = "it", None, {}

    def __init__(self, keep: Path, members: Mapping[str, Any], slices: tuple[Slice, ...], params: dict):
        self.keep, self.members, self.slices, self.params = keep, members, slices, params
        self.random = RandomStreams(3)
        self.tables, self.quantities, self.facts = {}, [], {}

    def targets(self):
        yield from self.members.items()

    def progress(self, message, *, done=None, total=None, **figures):
        pass

    def check(self, name, passed, detail):
        assert passed, detail

    def table(self, name, rows, schema=None):
        if schema is not None:
            to_csv(schema, rows)
        self.tables[name] = rows

    def record(self, quantity):
        self.quantities.append(quantity)

    def fact(self, name, value):
        self.facts[name] = value


def defaults(instrument: str) -> dict[str, Any]:
    """Return an instrument's parameters as the card fills them in."""
    card = yaml.safe_load(CARD.read_text("utf-8"))
    properties = card["provides"]["instruments"][instrument]["params"]["properties"]
    return {name: part["default"] for name, part in properties.items()}


def items(*names: str) -> tuple[StimulusItem, ...]:
    return tuple(StimulusItem(name, f"text {name}") for name in names)


class Bowl:
    """A target whose loss on item b is `5 + g_b.x + x^T H x / 2` a token, at x = 0."""

    facts: dict = {}  # noqa: RUF012 # never changed

    def __init__(
        self, matrix: torch.Tensor, gradients: Mapping[str, torch.Tensor], weights: Mapping[str, float]
    ):
        self.module = torch.nn.Module()
        self.module.x = torch.nn.Parameter(torch.zeros(len(matrix), dtype=torch.float64))
        self.matrix, self.gradients, self.weights = matrix, gradients, weights

    def batches(self, items, *, batch_size, max_tokens):
        groups = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
        return [Batch({}, sum(self.weights[i.id] for i in g), tuple(i.id for i in g)) for g in groups]

    def loss_sum(self, batch):
        x = self.module.x
        slope = sum(self.weights[i] * self.gradients[i] for i in batch.item_ids)
        return batch.weight * (5 + x @ self.matrix @ x / 2) + slope @ x
