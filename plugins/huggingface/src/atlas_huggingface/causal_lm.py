"""A causal language model as a target: its next-token loss, summed over scored tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlas.contracts import Batch, StimulusItem
from atlas.errors import BadInput
from atlas.objective import Objective, ObjectiveValue
from atlas_huggingface.next_token import NOT_SCORED, CausalLMOutputs
from atlas_huggingface.tokens import Reading, batch_of, encode, grouped

if TYPE_CHECKING:
    import torch

    from atlas.contracts import Generation
    from atlas.randomness import RandomStreams

__all__ = ["CausalLM", "require_causality"]


class CausalLM:
    """A causal language model, its tokenizer and its objective.

    Args:
        module: A transformers model in evaluation mode that returns `.logits`.
        tokenizer: Its tokenizer.
        objective: Loss terms of slot `causal-lm`.
        facts: What the record must hold.
    """

    sample_dims = 2

    def __init__(
        self, module: torch.nn.Module, tokenizer: Any, objective: Objective, facts: Mapping[str, str]
    ) -> None:
        self._module = module
        self._reading = Reading.of(tokenizer, module)
        self._objective = objective
        self._facts = dict(facts)

    @property
    def module(self) -> torch.nn.Module:
        """The module, in evaluation mode, with eager attention."""
        return self._module

    @property
    def facts(self) -> Mapping[str, str]:
        """Hashes, dtype, device, attention, licence and what else the record must hold."""
        return self._facts

    def batches(
        self, items: Sequence[StimulusItem], *, batch_size: int, max_tokens: int | None
    ) -> tuple[Batch, ...]:
        """Encode items, in order, into right-padded batches weighted by the number of scored tokens.

        Raises:
            BadInput: An item cannot be scored; see `tokens.encode`.
        """
        rows = encode(self._reading, items, max_tokens)
        return tuple(
            batch_of(self._reading, items[part], rows[part], float(sum(len(row) - 1 for row in rows[part])))
            for part in grouped(len(items), batch_size)
        )

    def outputs(self, batch: Batch) -> torch.Tensor:
        """Return the logits of each next token, `[B, T-1, V]`, in the module's dtype."""
        return self._logits(batch)[:, :-1]

    def output_loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss summed over scored tokens, as a function of the logits `[B, T-1, V]`."""
        return self._objective({"causal-lm": CausalLMOutputs(outputs, _next_tokens(batch))}).total

    def objective(self, batch: Batch) -> ObjectiveValue:
        """Return the objective over the batch's scored tokens, with each term and gradient group.

        The last position's logits take part unscored: cutting them off would copy all the others.
        """
        import torch

        targets = torch.nn.functional.pad(_next_tokens(batch), (0, 1), value=NOT_SCORED)
        return self._objective({"causal-lm": CausalLMOutputs(self._logits(batch), targets)})

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch's scored tokens, a scalar with a graph, in nats."""
        return self.objective(batch).total

    def generate(
        self, prompt: str, *, chat: bool, max_new_tokens: int, temperature: float, random: RandomStreams
    ) -> Generation:
        """Return what the model writes after a prompt; see `generation.generate`."""
        from atlas_huggingface.generation import generate

        return generate(
            self._module,
            self._reading,
            prompt,
            chat=chat,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            random=random,
        )

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, without special tokens."""
        return len(self._reading.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _logits(self, batch: Batch) -> torch.Tensor:
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        logits: torch.Tensor = self._module(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits


def _next_tokens(batch: Batch) -> torch.Tensor:
    """Return the token after each but the last, `[B, T-1]`, or `NOT_SCORED` where that is padding."""
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    return ids[:, 1:].masked_fill(mask[:, 1:] == 0, NOT_SCORED)


def require_causality(module: torch.nn.Module, *, where: str) -> dict[str, str]:
    """Refuse a module whose predictions depend on later tokens; return facts of its arithmetic.

    The architectures of transformers include encoders under the name of causal models. Their
    next-token loss would be small and mean nothing.

    Raises:
        BadInput: The prediction at the second position changes with the third token.
    """
    import torch

    from atlas_huggingface.casts import casts_watched

    device = next(module.parameters()).device
    probe = torch.tensor([[0, 1, 0], [0, 1, 1]], device=device)
    with torch.no_grad(), casts_watched(next(module.parameters()).dtype) as narrower:
        output = module(input_ids=probe, attention_mask=torch.ones_like(probe), use_cache=False)
    logits = output.logits[:, :2].double()
    scale = logits.abs().max().clamp_min(1e-30)
    change = float((logits[0] - logits[1]).abs().max() / scale)
    if not change <= 64 * torch.finfo(output.logits.dtype).eps:
        raise BadInput(
            f"the model is not causal: its prediction changes by {change:.1e} with a later token",
            where=where,
            fix="an encoder has no next-token loss; choose a causal language model",
        )
    return {"narrower_inside": ", ".join(sorted(narrower)) or "none"}
