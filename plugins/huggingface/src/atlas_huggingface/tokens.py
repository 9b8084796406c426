"""Tokens: texts made into padded batches, by the checkpoint's own tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.contracts import Batch, StimulusItem
from atlas.errors import BadInput
from atlas_huggingface.cache import file_sha256
from atlas_huggingface.checkpoint import TOKENIZER_FILES, Checkpoint
from atlas_huggingface.transformers_border import load_transformers

if TYPE_CHECKING:
    import torch

__all__ = ["encode_batches", "load_tokenizer"]


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


def encode_batches(
    tokenizer: Any,
    items: Sequence[StimulusItem],
    *,
    batch_size: int,
    max_tokens: int | None,
    rows: int,
    positions: int | None,
    device: torch.device,
) -> tuple[Batch, ...]:
    """Encode items, in order, into batches padded on the right.

    On the right, so that position ids count real tokens from 0 in every architecture, and padding
    lies in the causal future of everything that is scored.

    Args:
        tokenizer: Adds special tokens as it does by default.
        items: What to encode.
        batch_size: Most items a batch.
        max_tokens: Most tokens an item, special ones included; the rest is cut off.
        rows: Rows of the model's embedding.
        positions: Most tokens the model can read, or None for no limit.
        device: Where the tensors go.

    Returns:
        Batches with `input_ids` and `attention_mask`, `[B, T]`, weighted by the number of scored tokens.

    Raises:
        BadInput: An item has fewer than two tokens, more than the model reads, or one without an embedding.
    """
    import torch

    if batch_size < 1:
        raise BadInput(f"batch_size is {batch_size}, expected at least 1")
    encoded = [_encode(tokenizer, item, max_tokens, rows, positions) for item in items]
    padding = tokenizer.pad_token_id
    if padding is None or padding >= rows:
        padding = 0  # masked, so that any row of the embedding will do
    batches = []
    for start in range(0, len(items), batch_size):
        taken = encoded[start : start + batch_size]
        width = max(len(row) for row in taken)
        ids = torch.full((len(taken), width), padding, dtype=torch.long)
        mask = torch.zeros((len(taken), width), dtype=torch.long)
        for index, row in enumerate(taken):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        batches.append(
            Batch(
                inputs={"input_ids": ids.to(device), "attention_mask": mask.to(device)},
                weight=float(sum(len(row) - 1 for row in taken)),
                item_ids=tuple(item.id for item in items[start : start + batch_size]),
            )
        )
    return tuple(batches)


def _encode(
    tokenizer: Any, item: StimulusItem, max_tokens: int | None, rows: int, positions: int | None
) -> list[int]:
    row: list[int] = tokenizer(item.text, verbose=False)["input_ids"][:max_tokens]
    if len(row) < 2:
        raise BadInput(
            f"the item {item.id!r} has {len(row)} token{'s' * (len(row) != 1)} and nothing to predict",
            where="stimulus" if max_tokens is None or max_tokens > 1 else "stimulus.max_tokens",
            fix="give every item at least two tokens",
        )
    if positions is not None and len(row) > positions:
        raise BadInput(
            f"the item {item.id!r} has {len(row)} tokens, and the model reads at most {positions}",
            where="stimulus",
            fix=f"set max_tokens to {positions} or less, or shorten the item",
        )
    if max(row) >= rows:
        raise BadInput(
            f"the item {item.id!r} holds {tokenizer.convert_ids_to_tokens(max(row))!r}, token {max(row)}, "
            f"and the model's embedding has {rows} rows",
            where="stimulus",
            fix="take the tokenizer that belongs to this model, or leave that token out of the item",
        )
    return row
