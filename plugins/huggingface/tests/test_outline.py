"""Outlines: what a target will be like, told from its configuration and tokenizer alone."""

from __future__ import annotations

import pytest
import torch
from atlas_huggingface.plugin import atlas_targets

from atlas.contracts import StimulusItem

ITEMS = [
    StimulusItem("long", "cold air holds less water"),
    StimulusItem("short", "it rains"),
    StimulusItem("middle", "light bends in water"),
]


def outlined(path, **params):
    return atlas_targets()["hf"].outline({"path": str(path), **params})


def shapes(target, batches):
    return [({k: v.shape for k, v in b.inputs.items()}, b.weight, b.item_ids) for b in batches]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
def test_an_outline_has_the_shapes_of_the_target_and_a_second_derivative(
    tmp_path, opened, save_tiny, architecture
):
    folder = save_tiny(tmp_path, architecture)
    target, outline = opened(folder), outlined(folder)
    named = {name: (p.shape, p.dtype) for name, p in target.module.named_parameters()}
    assert {name: (p.shape, p.dtype) for name, p in outline.module.named_parameters()} == named
    assert {t.device.type for t in (*outline.module.parameters(), *outline.module.buffers())} == {"meta"}

    made = outline.batches(ITEMS, batch_size=2, max_tokens=4)
    assert shapes(outline, made) == shapes(target, target.batches(ITEMS, batch_size=2, max_tokens=4))

    parameters = list(outline.module.parameters())
    first = torch.autograd.grad(outline.loss_sum(made[0]), parameters, create_graph=True)
    second = torch.autograd.grad(sum(g.sum() for g in first), parameters)
    assert [h.shape for h in second] == [p.shape for p in parameters]


def test_an_outline_opens_no_weight_file(folder):
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert outlined(folder, dtype="bfloat16").module.dtype == torch.bfloat16


def test_where_nothing_on_this_machine_tells_there_is_no_outline(tmp_path, save_gguf, monkeypatch):
    source = atlas_targets()["hf"]
    monkeypatch.setenv("ATLAS_CACHE", str(tmp_path / "empty"))
    assert source.outline({"path": str(save_gguf(tmp_path / "tiny.gguf"))}) is None
    assert source.outline({"pulled": "smollm2-135m"}) is None
    assert source.outline({"id": "nobody/nothing", "revision": "0" * 40}) is None
