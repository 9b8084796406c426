"""A text classifier as a target: the loss of the classes that an attribute of the stimulus names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from atlas.contracts import Batch, StimulusItem
from atlas.errors import BadInput
from atlas.objective import Objective, ObjectiveValue
from atlas_huggingface.label import ClassifierOutputs
from atlas_huggingface.tokens import Reading, batch_of, encode_framed, grouped

if TYPE_CHECKING:
    import torch

__all__ = ["Classifier"]


class Classifier:
    """A sequence classifier, its tokenizer and its objective.

    Args:
        module: A transformers model in evaluation mode that returns `.logits`, `[B, C]`.
        tokenizer: Its tokenizer.
        attribute: The stimulus attribute that names the class: a label of the model, or its number.
        objective: Loss terms of slot `sequence-classification`.
        facts: What the record must hold.

    Raises:
        BadInput: The model is a regression, or gives a text more than one label.
    """

    sample_dims = 1

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        attribute: str,
        objective: Objective,
        facts: Mapping[str, str],
    ) -> None:
        config = module.config
        kind = config.problem_type or "single_label_classification"
        if kind != "single_label_classification" or config.num_labels < 2:
            raise BadInput(
                f"the model does {kind} with {config.num_labels} output{'s' * (config.num_labels != 1)}",
                where="targets",
                fix="choose a model that gives each text one of two or more labels",
            )
        self._module = module
        self._reading = _reading(tokenizer, module)
        self._attribute = attribute
        self._numbers = {str(name): int(number) for name, number in config.label2id.items()}
        self._objective = objective
        self._facts = {**facts, "label_attribute": attribute, "labels": self._known()}

    @property
    def module(self) -> torch.nn.Module:
        """The module, in evaluation mode, with eager attention."""
        module: torch.nn.Module = self._module
        return module

    @property
    def facts(self) -> Mapping[str, str]:
        """Hashes, dtype, device, attention, licence, labels and what else the record must hold."""
        return self._facts

    def batches(
        self, items: Sequence[StimulusItem], *, batch_size: int, max_tokens: int | None
    ) -> tuple[Batch, ...]:
        """Encode items, in order, into right-padded batches weighted by the number of items.

        Their classes are the input `labels`, `[B]`.

        Raises:
            BadInput: An item has no label, or one that the model does not know; see `tokens.encode_framed`.
        """
        import torch

        numbers = [self._number(item) for item in items]
        rows = encode_framed(self._reading, items, max_tokens)
        for item, row in zip(items, rows, strict=True):
            if row[-1] == self._reading.padding:
                raise BadInput(
                    f"the item {item.id!r} ends in the padding token, which the model passes over",
                    where="stimulus",
                    fix="change the end of the item",
                )
        return tuple(
            batch_of(
                self._reading,
                items[part],
                rows[part],
                float(len(rows[part])),
                labels=torch.tensor(numbers[part]),
            )
            for part in grouped(len(items), batch_size)
        )

    def outputs(self, batch: Batch) -> torch.Tensor:
        """Return the logits of the classes, `[B, C]`, in the module's dtype."""
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        logits: torch.Tensor = self._module(input_ids=ids, attention_mask=mask).logits
        return logits

    def objective(self, outputs: torch.Tensor, batch: Batch) -> ObjectiveValue:
        """Return the objective over the batch's items, as a function of the logits `[B, C]`."""
        return self._objective(
            {"sequence-classification": ClassifierOutputs(outputs, batch.inputs["labels"])}
        )

    def output_loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss summed over items, as a function of the logits `[B, C]`."""
        return self.objective(outputs, batch).total

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch's items, a scalar with a graph, in nats."""
        return self.output_loss(self.outputs(batch), batch)

    def _number(self, item: StimulusItem) -> int:
        if self._attribute not in item.attributes:
            have = ", ".join(sorted(item.attributes)) or "none"
            raise BadInput(
                f"the item {item.id!r} has no attribute {self._attribute!r} that would say its label",
                where="stimulus",
                fix=f"set the target's `label` to one of its attributes: {have}",
            )
        text = item.attributes[self._attribute]
        if text in self._numbers:
            return self._numbers[text]
        if text.isascii() and text.isdigit() and int(text) in self._numbers.values():
            return int(text)
        raise BadInput(
            f"the item {item.id!r} has the label {text!r}, which the model does not know",
            where=f"stimulus attribute {self._attribute!r}",
            fix=f"labels of the model, or their numbers: {self._known()}",
        )

    def _known(self) -> str:
        named = sorted((number, name) for name, number in self._numbers.items())
        return ", ".join(f"{number} {name}" for number, name in named)


def _reading(tokenizer: Any, module: Any) -> Reading:
    """Return how a classifier reads; a decoder finds a text's last token by its configuration's padding."""
    reading = Reading.of(tokenizer, module)
    named = module.config.pad_token_id
    if named is None or not 0 <= named < reading.rows:
        module.config.pad_token_id = named = reading.padding
    return evolve(reading, padding=named)
