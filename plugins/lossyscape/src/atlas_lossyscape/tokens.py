"""Single tokens of a causal language model: loss, gradient norm, and the curvature along that gradient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.operators import HessianOperator
from attrs import frozen
from torch.nn.attention import SDPBackend, sdpa_kernel

from atlas.contracts import Batch, OutputTarget
from atlas.errors import BadInput

__all__ = ["TokenMeasure", "measure_tokens", "token_counts"]


@frozen
class TokenMeasure:
    """One scored token.

    Attributes:
        item: Id of its stimulus item.
        position: Of the token in its item, from 0; the first is never scored.
        token: Its id in the model's vocabulary.
        count: How often the token stands in the whole stimulus.
        loss: Its own loss, the logarithm of its perplexity, in nats.
        gradient_norm: Of its own loss.
        curvature: `d^T H d` of the slice's mean loss along its unit gradient d; None where that is zero.
    """

    item: str
    position: int
    token: int
    count: int
    loss: float
    gradient_norm: float
    curvature: float | None


def token_counts(batches: Sequence[Batch]) -> Counter[int]:
    """Count the tokens of batches, padding left out."""
    counts: Counter[int] = Counter()
    for batch in batches:
        ids = batch.inputs["input_ids"]
        mask = batch.inputs.get("attention_mask", torch.ones_like(ids))
        counts.update(ids[mask != 0].tolist())
    return counts


def _token_losses(target: OutputTarget, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each next token's loss `[B, T-1]` with its graph, which are scored, and the tokens."""
    ids = batch.inputs["input_ids"]
    mask = batch.inputs.get("attention_mask", torch.ones_like(ids))
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        outputs = target.outputs(batch)
        total = float(target.output_loss(outputs, batch).detach())
    following, scored = ids[:, 1:], mask[:, 1:] != 0
    if outputs.dim() != 3 or outputs.shape[:2] != following.shape:
        raise BadInput(
            f"the target's outputs are {tuple(outputs.shape)}, not one row of logits for each next token",
            fix="take a causal language model, or set `tokens: 0`",
        )
    wide = outputs.double() if outputs.dtype is torch.float64 else outputs.float()
    losses = torch.nn.functional.cross_entropy(wide.transpose(1, 2), following, reduction="none")
    summed = float(losses.detach()[scored].sum())
    if abs(summed - total) > 1e-3 * abs(total):
        raise BadInput(
            f"the tokens' losses add up to {summed:.6g} and the target's loss is {total:.6g}",
            fix="take a target whose loss is the cross-entropy of next tokens, or set `tokens: 0`",
        )
    return losses, scored, following


def measure_tokens(
    target: OutputTarget,
    operator: HessianOperator,
    batches: Sequence[Batch],
    counts: Counter[int],
    most: int,
    rng: np.random.Generator,
    report: Callable[[int, int], None],
) -> list[TokenMeasure]:
    """Measure scored tokens, one product each, all of them or `most` drawn without replacement.

    Args:
        target: A causal language model.
        operator: The Hessian of the slice's mean loss.
        batches: The slice's batches, one item each.
        counts: Of the tokens of the whole stimulus.
        most: Largest number of tokens.
        rng: Draws them.
        report: Told how many are done, of how many.

    Raises:
        BadInput: The target does not score next tokens by their cross-entropy.
    """
    places: list[tuple[int, int]] = []
    for number, batch in enumerate(batches):
        ids = batch.inputs["input_ids"]
        mask = batch.inputs.get("attention_mask", torch.ones_like(ids))
        places += [(number, int(t)) for t in (mask[0, 1:] != 0).nonzero().flatten()]
    if len(places) > most:
        picks = sorted(rng.choice(len(places), size=most, replace=False).tolist())
        places = [places[i] for i in picks]
    parameters = operator.parameters
    measured: list[TokenMeasure] = []
    for number, batch in enumerate(batches):
        mine = [t for n, t in places if n == number]
        if not mine:
            continue
        losses, _, following = _token_losses(target, batch)
        for t in mine:
            report(len(measured), len(places))
            parts = torch.autograd.grad(
                losses[0, t], parameters.tensors, retain_graph=t != mine[-1], allow_unused=True
            )
            pairs = zip(parts, parameters.tensors, strict=True)
            flat = torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs])
            length = reductions.norm(flat)
            curvature = None
            if length:
                flat.div_(length)
                curvature = reductions.dot(flat, operator.matvec(flat))
            token = int(following[0, t])
            measured.append(
                TokenMeasure(
                    batch.item_ids[0] if batch.item_ids else str(number),
                    t + 1,
                    token,
                    counts[token],
                    float(losses[0, t].detach()),
                    length,
                    curvature,
                )
            )
    return measured
