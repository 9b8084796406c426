from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from atlas_huggingface.generation import _draws, framed

from atlas.contracts import StimulusItem
from atlas.errors import BadInput
from atlas.randomness import RandomStreams

ASKED = {"chat": True, "max_new_tokens": 5, "temperature": 0.0, "random": RandomStreams(1)}


@pytest.mark.parametrize("form", ["folder", "gguf"])
def test_greedy_tokens_are_the_likeliest_of_the_models_own_logits(
    folder, tmp_path, save_tiny, save_gguf, opened, form
):
    # Oracle: the target's logits of the whole text so far, without a cache.
    target = opened(save_tiny(folder, "llama") if form == "folder" else save_gguf(tmp_path / "tiny.gguf"))
    prompt = "cold air holds" if form == "folder" else "the the"
    (batch,) = target.batches([StimulusItem("x", prompt)], batch_size=1, max_tokens=None)
    ids = batch.inputs["input_ids"]
    for _ in range(5):
        logits = target.module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        ids = torch.cat([ids, logits.argmax().reshape(1, 1)], dim=1)
        if ids[0, -1] == 2:
            break

    made = target.generate(prompt, **ASKED)

    assert list(made.tokens) == ids[0, batch.inputs["input_ids"].shape[1] :].tolist()


def test_drawn_tokens_have_the_softmax_probabilities_of_their_temperature():
    # Oracle: softmax(logits / T). Tolerance: four standard errors of a share of 4,000 draws.
    logits, n = torch.tensor([[0.0, 1.0, -1.0, 2.0]]), 4000
    add = _draws(0, 0.8, RandomStreams(3))
    ids = torch.zeros(1, 1)
    drawn = torch.tensor([int(add(ids.expand(1, k), logits).argmax()) for k in range(n)])

    for token, p in enumerate((logits[0].double() / 0.8).softmax(0).tolist()):
        share = float((drawn == token).double().mean())
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_a_prompt_that_leaves_no_room_is_refused(folder, save_tiny, opened):
    with pytest.raises(BadInput, match="reads 16"):
        opened(save_tiny(folder, "llama")).generate("cold " * 16, **ASKED)


def test_a_template_that_adds_a_system_prompt_of_its_own_is_given_an_empty_one():
    def render(messages, **_):
        system = "" if messages[0]["role"] == "system" else "[you are a helpful assistant]"
        return system + "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"

    tokenizer = SimpleNamespace(chat_template="", apply_chat_template=render)

    assert framed(tokenizer) == ("<system><user>", "<assistant>")
