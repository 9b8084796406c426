"""What a causal language model writes after a prompt: the likeliest tokens, or drawn ones.

Tokens are drawn by the Gumbel-max trick (Gumbel 1954; Maddison, Tarlow and Minka 2014, "A* sampling"): the
largest of `logit / temperature + g`, with g standard Gumbel, falls on each token with its softmax
probability. The g come from counter-based streams in float64, so that a draw depends on its seed and its
position alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atlas.contracts import Generation
from atlas.errors import BadInput
from atlas_huggingface.transformers_border import load_transformers

if TYPE_CHECKING:
    import torch

    from atlas.randomness import RandomStreams
    from atlas_huggingface.tokens import Reading

__all__ = ["framed", "generate"]

_PLACE = "{atlas-prompt}"
"""Stands for the prompt while a template is rendered."""


def generate(
    module: torch.nn.Module,
    reading: Reading,
    prompt: str,
    *,
    chat: bool,
    max_new_tokens: int,
    temperature: float,
    random: RandomStreams,
) -> Generation:
    """Return what a module of transformers writes after a prompt; see `GenerativeTarget`.

    Nothing of what the checkpoint suggests for generation is used but its end tokens.

    Raises:
        BadInput: The prompt has no token, one without an embedding, or leaves no room.
    """
    import torch

    model: Any = module
    tokenizer = reading.tokenizer
    before, after = framed(tokenizer) if chat else ("", "")
    marked = bool(before or after)
    row = tokenizer(before + prompt + after, add_special_tokens=not marked, verbose=False)["input_ids"]
    room = max_new_tokens if reading.positions is None else reading.positions - len(row)
    if not row or max(row) >= reading.rows or room < 1:
        raise BadInput(
            f"the prompt has {len(row)} tokens; the model embeds {reading.rows} kinds of token "
            f"and reads {reading.positions or 'any number'} with its answer",
            fix="put a shorter prompt with at least one token, of the model's own tokenizer",
        )
    ends = _ends(model, tokenizer)
    ids = torch.tensor([row], device=reading.device)
    settings = load_transformers().GenerationConfig(
        max_new_tokens=min(max_new_tokens, room),
        do_sample=False,
        use_cache=True,
        eos_token_id=ends or None,
        pad_token_id=reading.padding,
    )
    draws = [_draws(len(row), temperature, random)] if temperature > 0 else []
    with torch.inference_mode():
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=settings, logits_processor=draws
        )
    made = tuple(output[0, len(row) :].tolist())
    text = tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Generation(text, made, bool(made) and made[-1] in ends, (before, after))


def framed(tokenizer: Any) -> tuple[str, str]:
    """Return what a chat template puts before and after the user's one turn.

    Some templates add a system prompt of their own. So the turn is tried alone and after an empty system
    turn, and the frame with fewer words is taken. Both are empty where there is no template.

    Raises:
        BadInput: The template leaves the turn out, or doubles it.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        return "", ""
    found = list(_frames(tokenizer))
    if not found:
        raise BadInput(
            "the model's chat template has no place for a user's turn",
            fix="put the prompts without a template: `chat: false`",
        )
    return min(found, key=lambda frame: len(re.findall(r"\w+", " ".join(frame))))


def _frames(tokenizer: Any) -> Iterator[tuple[str, str]]:
    from jinja2 import TemplateError

    user = {"role": "user", "content": _PLACE}
    for messages in ([user], [{"role": "system", "content": ""}, user]):
        try:
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError:  # a template that takes no system turn says so like this
            continue
        parts = text.split(_PLACE)
        if len(parts) == 2:
            yield parts[0], parts[1]


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: the checkpoint's and the tokenizer's."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named]
    return sorted({token for token in (*listed, tokenizer.eos_token_id) if token is not None})


def _draws(start: int, temperature: float, random: RandomStreams) -> Any:
    """Return a processor of logits, `[1, V]`, that adds the draws of each position."""
    import torch

    def add(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        noise = random.generator("token", index=ids.shape[1] - start).gumbel(size=logits.shape[-1])
        return logits.double() / temperature + torch.from_numpy(noise).to(logits.device)

    return add
