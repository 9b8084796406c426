from __future__ import annotations

import math

import pytest
import torch
from atlas_huggingface.transformers_border import load_transformers

from atlas.contracts import StimulusItem
from atlas.errors import BadInput

ROWS = 24
"""Rows of the embedding of the tiny models in conftest.py."""

ITEMS = [
    StimulusItem("long", "cold air holds less water the warm air holds more"),
    StimulusItem("short", "it rains"),
    StimulusItem("middle", "light bends in water often"),
]


def gradient(target, batches):
    loss = sum(target.loss_sum(batch) for batch in batches)
    return loss.item(), torch.autograd.grad(loss, list(target.module.parameters()))


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
def test_a_padded_batch_has_the_loss_and_gradient_of_its_items_taken_singly(
    tmp_path, opened, architecture, save_tiny
):
    target = opened(save_tiny(tmp_path, architecture), dtype="float64")
    padded = gradient(target, target.batches(ITEMS, batch_size=3, max_tokens=None))
    single = gradient(target, target.batches(ITEMS, batch_size=1, max_tokens=None))
    # GPT-2 is float64 throughout; the others round to float32 inside, as their facts say.
    tolerance = 1e-12 if target.facts["narrower_inside"] == "none" else 1e-5
    assert padded[0] == pytest.approx(single[0], rel=tolerance)
    for left, right in zip(padded[1], single[1], strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def test_the_loss_is_the_summed_cross_entropy_of_each_token_given_those_before(folder, opened):
    target = opened(folder, dtype="float64")
    (batch,) = target.batches(ITEMS[1:2], batch_size=1, max_tokens=None)
    (row,) = batch.inputs["input_ids"].tolist()
    logits = target.module(input_ids=torch.tensor([row])).logits[0]
    expected = -sum(logits[i].log_softmax(-1)[row[i + 1]].item() for i in range(len(row) - 1))
    assert target.loss_sum(batch).item() == pytest.approx(expected, rel=1e-12)


def test_weight_is_the_number_of_scored_tokens_and_ids_name_the_items(folder, opened):
    batches = opened(folder).batches(ITEMS, batch_size=2, max_tokens=4)
    assert [(b.weight, b.item_ids) for b in batches] == [(3.0 + 1.0, ("long", "short")), (3.0, ("middle",))]


def test_special_tokens_are_those_that_the_tokenizer_adds(tmp_path, opened, save_tiny):
    target = opened(save_tiny(tmp_path, bos=True))
    (batch,) = target.batches(ITEMS[1:2], batch_size=1, max_tokens=None)
    assert batch.inputs["input_ids"][0, 0].item() == 1
    assert target.facts["special_tokens"] == "as the tokenizer adds them: <s>"


def test_half_precision_weights_give_a_float32_loss(folder, opened):
    target = opened(folder, dtype="bfloat16")
    (batch,) = target.batches(ITEMS[:1], batch_size=1, max_tokens=None)
    assert (target.module.lm_head.weight.dtype, target.loss_sum(batch).dtype) == (
        torch.bfloat16,
        torch.float32,
    )


def test_weights_of_loss_terms_scale_the_loss(folder, opened):
    once, twice = opened(folder), opened(folder, loss={"next-token": 2.0})
    (batch,) = once.batches(ITEMS[:1], batch_size=1, max_tokens=None)
    assert twice.loss_sum(batch).item() == 2 * once.loss_sum(batch).item()


def test_an_unknown_loss_term_is_refused_with_the_close_name(folder, opened):
    with pytest.raises(BadInput, match="did you mean next-token"):
        opened(folder, loss={"next-tokens": 1.0})


def test_a_second_derivative_exists(tmp_path, opened, save_tiny):
    target = opened(save_tiny(tmp_path, "llama"))
    (batch,) = target.batches(ITEMS[:1], batch_size=1, max_tokens=None)
    parameters = list(target.module.parameters())
    first = torch.autograd.grad(target.loss_sum(batch), parameters, create_graph=True)
    second = torch.autograd.grad(sum(g.sum() for g in first), parameters)
    assert all(torch.isfinite(h).all() for h in second)


def test_the_module_is_in_evaluation_mode_with_eager_attention_and_no_cache(folder, opened):
    module = opened(folder).module
    config = module.config
    assert (module.training, config._attn_implementation, config.use_cache) == (False, "eager", False)


def test_the_weights_are_those_of_the_file(folder, opened, tiny):
    for name, value in opened(folder).module.state_dict().items():
        assert torch.equal(value, tiny("gpt2").state_dict()[name]), name


def test_the_record_holds_digests_settings_and_counts(folder, opened, tiny):
    import hashlib

    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    facts = opened(folder, dtype="float64").facts
    assert (
        facts["sha256:model.safetensors"]
        == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    )
    assert facts["config_sha256"] == hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    assert facts["parameters"] == str(sum(p.numel() for p in tiny("gpt2").parameters()))
    chosen = ("dtype", "device", "attention", "licence", "stored_dtype", "loss", "narrower_inside")
    assert [facts[key] for key in chosen] == [
        "float64",
        "cpu",
        "eager",
        "mit",
        "float32",
        "1 next-token",
        "none",
    ]


def test_an_item_of_one_token_is_refused_by_name(folder, opened):
    with pytest.raises(BadInput, match="item 'lonely' has 1 token and nothing to predict"):
        opened(folder).batches([StimulusItem("lonely", "air")], batch_size=1, max_tokens=None)


def test_an_item_longer_than_the_model_reads_is_refused_by_name(folder, opened):
    with pytest.raises(BadInput, match=r"item 'endless' has 40 tokens, and the model reads at most 16"):
        opened(folder).batches([StimulusItem("endless", "air " * 40)], batch_size=1, max_tokens=None)


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(folder, tmp_path, opened, save_tokenizer):
    other = tmp_path / "other"
    other.mkdir()
    save_tokenizer(other, words=["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(ROWS))])
    with pytest.raises(BadInput, match=f"has {ROWS + 3} tokens and the model's embedding only {ROWS} rows"):
        opened(folder, tokenizer=str(other))


def test_a_token_without_a_row_in_the_embedding_is_refused_where_an_item_holds_it(folder, opened):
    tokenizer = load_transformers().AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<new{i}>" for i in range(ROWS)])
    tokenizer.save_pretrained(folder)
    target = opened(folder)
    assert len(target.batches(ITEMS, batch_size=3, max_tokens=None)) == 1
    with pytest.raises(BadInput, match=rf"item 'odd' holds '<new20>', token \d+, .* has {ROWS} rows"):
        target.batches([StimulusItem("odd", "it rains <new20>")], batch_size=1, max_tokens=None)


def test_a_tokenizer_beside_other_weights_can_be_named(folder, tmp_path, opened, save_tokenizer):
    other = tmp_path / "other"
    other.mkdir()
    save_tokenizer(other, bos=True)
    assert opened(folder, tokenizer=str(other)).facts["special_tokens"].endswith("<s>")


def test_an_encoder_under_the_name_of_a_causal_model_is_refused(tmp_path, opened, save_tokenizer):
    transformers = load_transformers()
    config = transformers.BertConfig(
        vocab_size=ROWS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertLMHeadModel(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(BadInput, match="the model is not causal"):
        opened(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_is_refused(folder, opened):
    with pytest.raises(BadInput, match="no CUDA device"):
        opened(folder, device="cuda")


def test_device_auto_opens_somewhere(folder, opened):
    target = opened(folder, device="auto")
    (batch,) = target.batches(ITEMS[:1], batch_size=1, max_tokens=None)
    assert math.isfinite(target.loss_sum(batch).item())
