"""Tokens: texts made into padded batches, by the checkpoint's own tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from atlas.contracts import Batch, StimulusItem
from atlas.errors import BadInput
from atlas_huggingface.cache import file_sha256
from atlas_huggingface.checkpoint import TOKENIZER_FILES, Checkpoint
from atlas_huggingface.transformers_border import load_transformers

if TYPE_CHECKING:
    import torch

__all__ = ["Reading", "batch_of", "encode", "encode_framed", "grouped", "load_tokenizer", "padded"]


def load_tokenizer(checkpoint: Checkpoint, chosen: Path | None, *, rows: int) -> tuple[Any, dict[str, str]]:
    """Return the tokenizer, and facts of it.

    Args:
        checkpoint: Where it lies, unless `chosen` names another folder.
        chosen: A folder with tokenizer files, or None.
        rows: Rows of the model's embedding.

    Raises:
        BadInput: There is none, it cannot be read, or it has more tokens than the embedding has rows.
    """
    transformers = load_transformers()
    inside = chosen is None and checkpoint.format == "gguf"
    folder = chosen if chosen is not None else checkpoint.folder
    if inside:
        digest = file_sha256(checkpoint.weights[0])
    else:
        present = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        if not any(path.name in TOKENIZER_FILES[:-3] for path in present):
            raise BadInput(
                "there is no tokenizer here",
                where=str(folder),
                fix="put tokenizer.json beside the weights, or set the target's `tokenizer` to its folder",
            )
        lines = [f"{file_sha256(path)}  {path.name}\n" for path in sorted(present)]
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            **({"gguf_file": checkpoint.weights[0].name} if inside else {}),
        )
    except Exception as error:  # each tokenizer class fails in its own way on a damaged file
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"the tokenizer cannot be read: {type(error).__name__}: {reason}", where=str(folder)
        ) from error
    size = tokenizer.vocab_size  # without tokens added later, which texts may never use
    if size > rows:
        raise BadInput(
            f"the tokenizer has {size} tokens and the model's embedding only {rows} rows",
            where=str(folder),
            fix="take the tokenizer that belongs to this model",
        )
    if size == 0:
        raise BadInput("the tokenizer has no tokens", where=str(folder))
    added = tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"])
    return tokenizer, {
        "tokenizer": f"{type(tokenizer).__name__}, {size} tokens for {rows} rows",
        "tokenizer_sha256": digest,
        "special_tokens": f"as the tokenizer adds them: {' '.join(added) or 'none'}",
    }


@frozen
class Reading:
    """How a model reads texts.

    Attributes:
        tokenizer: Adds special tokens as it does by default.
        rows: Rows of the model's embedding.
        positions: Most tokens the model can read, or None for no limit.
        padding: Fills rows up on the right; masked, so that any token will do.
        device: Where batches go.
    """

    tokenizer: Any
    rows: int
    positions: int | None
    padding: int
    device: torch.device

    @classmethod
    def of(cls, tokenizer: Any, module: torch.nn.Module) -> Reading:
        """Return how a module of transformers reads with a tokenizer."""
        rows = module.get_input_embeddings().weight.shape[0]  # type: ignore[operator] # of transformers
        padding = tokenizer.pad_token_id
        return cls(
            tokenizer,
            rows,
            _positions(module),
            0 if padding is None or padding >= rows else padding,
            next(module.parameters()).device,
        )


def _positions(module: Any) -> int | None:
    """Return how many tokens a module reads; RoBERTa's kind leaves the positions up to padding's unused."""
    positions: int | None = getattr(module.config, "max_position_embeddings", None)
    embeddings = getattr(getattr(module.base_model, "embeddings", None), "position_embeddings", None)
    spent = getattr(embeddings, "padding_idx", None)
    return positions if positions is None or spent is None else positions - spent - 1


def encode(reading: Reading, items: Sequence[StimulusItem], max_tokens: int | None) -> list[list[int]]:
    """Return the tokens of each item, its first `max_tokens` where there are more.

    Raises:
        BadInput: An item has fewer than two tokens, more than the model reads, or one without an embedding.
    """
    found = []
    for item in items:
        row: list[int] = reading.tokenizer(item.text, verbose=False)["input_ids"][:max_tokens]
        if len(row) < 2:
            raise BadInput(
                f"the item {item.id!r} has {len(row)} token{'s' * (len(row) != 1)} and nothing to predict",
                where="stimulus" if max_tokens is None or max_tokens > 1 else "stimulus.max_tokens",
                fix="give every item at least two tokens",
            )
        found.append(_checked(row, reading, item))
    return found


def encode_framed(reading: Reading, items: Sequence[StimulusItem], max_tokens: int | None) -> list[list[int]]:
    """Return the tokens of each item, cut inside the special tokens that frame it, as encoders expect.

    Raises:
        BadInput: An item has no token of its own, more than the model reads, or one without an embedding.
    """
    frame = reading.tokenizer.num_special_tokens_to_add()
    if max_tokens is not None and max_tokens <= frame:
        raise BadInput(
            f"max_tokens is {max_tokens}, and the tokenizer's special tokens alone are {frame}",
            where="stimulus.max_tokens",
            fix=f"set it to {frame + 1} or more",
        )
    cut = {} if max_tokens is None else {"truncation": True, "max_length": max_tokens}
    found = []
    for item in items:
        row: list[int] = reading.tokenizer(item.text, verbose=False, **cut)["input_ids"]
        if len(row) <= frame:
            raise BadInput(
                f"the item {item.id!r} has no tokens", where="stimulus", fix="leave it out, or give it a text"
            )
        found.append(_checked(row, reading, item))
    return found


def _checked(row: list[int], reading: Reading, item: StimulusItem) -> list[int]:
    rows, positions = reading.rows, reading.positions
    if positions is not None and len(row) > positions:
        raise BadInput(
            f"the item {item.id!r} has {len(row)} tokens, and the model reads at most {positions}",
            where="stimulus",
            fix=f"set max_tokens to {positions} or less, or shorten the item",
        )
    if max(row) >= rows:
        raise BadInput(
            f"the item {item.id!r} holds {reading.tokenizer.convert_ids_to_tokens(max(row))!r}, "
            f"token {max(row)}, and the model's embedding has {rows} rows",
            where="stimulus",
            fix="take the tokenizer that belongs to this model, or leave that token out of the item",
        )
    return row


def grouped(count: int, batch_size: int) -> Iterator[slice]:
    """Yield the slices that divide so many items, in order, into batches.

    Raises:
        BadInput: `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise BadInput(f"batch_size is {batch_size}, expected at least 1")
    return (slice(start, start + batch_size) for start in range(0, count, batch_size))


def padded(rows: Sequence[Sequence[int]], filling: int) -> torch.Tensor:
    """Return rows filled up on the right, `[B, T]`.

    On the right, so that position ids count real tokens from 0 in every architecture, and padding
    lies in the causal future of everything that is scored.
    """
    import torch

    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filling] * (width - len(row))] for row in rows], dtype=torch.long)


def batch_of(
    reading: Reading,
    items: Sequence[StimulusItem],
    rows: Sequence[Sequence[int]],
    weight: float,
    **more: torch.Tensor,
) -> Batch:
    """Return one batch with `input_ids` and `attention_mask`, `[B, T]`, and further inputs, on the device."""
    inputs = {
        "input_ids": padded(rows, reading.padding),
        "attention_mask": padded([[1] * len(row) for row in rows], 0),
        **more,
    }
    return Batch(
        inputs={name: tensor.to(reading.device) for name, tensor in inputs.items()},
        weight=weight,
        item_ids=tuple(item.id for item in items),
    )
