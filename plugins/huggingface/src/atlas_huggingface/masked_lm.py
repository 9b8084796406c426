"""A masked language model as a target: the loss of tokens that are hidden from it, drawn once and for all.

Every masked token is replaced by the mask token itself (BERT's pretraining leaves a fifth of them visible
or random), so that the loss is a function of text, rate and seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from atlas.contracts import Batch, StimulusItem
from atlas.errors import BadInput
from atlas.objective import Objective, ObjectiveValue
from atlas.randomness import RandomStreams
from atlas_huggingface.masked_token import MaskedLMOutputs
from atlas_huggingface.next_token import NOT_SCORED
from atlas_huggingface.tokens import Reading, batch_of, encode_framed, grouped, padded

if TYPE_CHECKING:
    import torch

__all__ = ["MaskedLM", "Masking"]


@frozen
class Masking:
    """Which tokens are masked.

    A token is masked with probability `rate`, drawn for its item and position alone, so that neither the
    order of items nor the size of batches matters. Special tokens never are; of an item without a draw, the
    token that came nearest is.

    Attributes:
        rate: Between 0 and 1.
        seed: Of the draws.
    """

    rate: float
    seed: int

    def positions(self, item: StimulusItem, row: Sequence[int], special: Sequence[bool]) -> list[int]:
        """Return the masked positions of an item's tokens, at least one.

        Raises:
            BadInput: All of its tokens are special.
        """
        draws = RandomStreams(self.seed).generator("mask", name=item.id).random(len(row))
        open_to_it = [index for index in range(len(row)) if not special[index]]
        if not open_to_it:
            raise BadInput(
                f"the item {item.id!r} has no token that could be masked: all of them are special",
                where="stimulus",
                fix="leave it out, or give it a text that the tokenizer knows",
            )
        chosen = [index for index in open_to_it if draws[index] < self.rate]
        return chosen or [min(open_to_it, key=lambda index: float(draws[index]))]


class MaskedLM:
    """A masked language model, its tokenizer, its masking and its objective.

    Args:
        module: A transformers model in evaluation mode that returns `.logits`.
        tokenizer: Its tokenizer.
        masking: Which tokens are masked.
        objective: Loss terms of slot `masked-lm`.
        facts: What the record must hold.

    Raises:
        BadInput: The tokenizer has no mask token.
    """

    sample_dims = 2

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: Any,
        masking: Masking,
        objective: Objective,
        facts: Mapping[str, str],
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise BadInput(
                "the tokenizer has no mask token",
                where="targets",
                fix="take the tokenizer that belongs to this model",
            )
        self._module = module
        self._reading = Reading.of(tokenizer, module)
        self._masking = masking
        self._objective = objective
        self._facts = {
            **facts,
            "mask_rate": f"{masking.rate:g}",
            "mask_seed": str(masking.seed),
            "mask_token": str(tokenizer.mask_token),
        }

    @property
    def module(self) -> torch.nn.Module:
        """The module, in evaluation mode, with eager attention."""
        return self._module

    @property
    def facts(self) -> Mapping[str, str]:
        """Hashes, dtype, device, attention, licence, masking and what else the record must hold."""
        return self._facts

    def batches(
        self, items: Sequence[StimulusItem], *, batch_size: int, max_tokens: int | None
    ) -> tuple[Batch, ...]:
        """Encode and mask items, in order, into right-padded batches weighted by the number of masked tokens.

        The tokens behind the mask are the input `labels`, `[B, T]`.

        Raises:
            BadInput: An item cannot be masked; see `tokens.encode_framed`.
        """
        rows = encode_framed(self._reading, items, max_tokens)
        masked = [self._masked(item, row) for item, row in zip(items, rows, strict=True)]
        batches = []
        for part in grouped(len(items), batch_size):
            hidden = [targets for _, targets in masked[part]]
            weight = float(sum(token != NOT_SCORED for targets in hidden for token in targets))
            shown = [row for row, _ in masked[part]]
            batches.append(
                batch_of(self._reading, items[part], shown, weight, labels=padded(hidden, NOT_SCORED))
            )
        return tuple(batches)

    def outputs(self, batch: Batch) -> torch.Tensor:
        """Return the logits at each position, `[B, T, V]`, in the module's dtype."""
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        logits: torch.Tensor = self._module(input_ids=ids, attention_mask=mask).logits
        return logits

    def objective(self, outputs: torch.Tensor, batch: Batch) -> ObjectiveValue:
        """Return the objective over the batch's masked tokens, as a function of the logits `[B, T, V]`."""
        return self._objective({"masked-lm": MaskedLMOutputs(outputs, batch.inputs["labels"])})

    def output_loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss summed over masked tokens, as a function of the logits `[B, T, V]`."""
        return self.objective(outputs, batch).total

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch's masked tokens, a scalar with a graph, in nats."""
        return self.output_loss(self.outputs(batch), batch)

    def _masked(self, item: StimulusItem, row: list[int]) -> tuple[list[int], list[int]]:
        """Return what the model sees of an item, and what is behind the mask or `NOT_SCORED`."""
        tokenizer = self._reading.tokenizer
        special = [token in tokenizer.all_special_ids for token in row]
        shown, targets = list(row), [NOT_SCORED] * len(row)
        for index in self._masking.positions(item, row, special):
            shown[index], targets[index] = tokenizer.mask_token_id, row[index]
        return shown, targets
