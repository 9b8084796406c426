"""Masked language models and classifiers as targets, on tiny random checkpoints of several architectures."""

from __future__ import annotations

import pytest
import torch
from atlas_huggingface.masked_lm import Masking
from atlas_huggingface.plugin import atlas_targets

from atlas.contracts import LossTerm, StimulusItem
from atlas.errors import BadInput

ITEMS = [
    StimulusItem("long", "cold air holds less water the warm air", {"tier": "contested"}),
    StimulusItem("short", "it rains", {"tier": "2"}),
    StimulusItem("middle", "light bends in water often", {"tier": "ground_truth"}),
]
CASES = {
    "bert masked": {"task": "masked-lm"},
    "distilbert masked": {"task": "masked-lm"},
    "roberta masked": {"task": "masked-lm"},
    "bert classes": {"task": "sequence-classification", "label": "tier"},
    "distilbert classes": {"task": "sequence-classification", "label": "tier"},
    "gpt2 classes": {"task": "sequence-classification", "label": "tier"},
    "llama classes": {"task": "sequence-classification", "label": "tier"},
    "gpt2": {},
    "llama": {},
    "gpt_neox": {},
    "qwen2": {},
}
MASK, SKIP = 17, -100


@pytest.fixture
def params(tmp_path, save_tiny, save_tokenizer):
    """Saves a model and returns what opens it; its tokenizer lies apart, as Qwen2 would bring its own."""

    def save(architecture):
        folder = tmp_path / architecture.replace(" ", "-")
        if not folder.is_dir():
            save_tiny(folder, architecture)
            save_tokenizer(folder / "tokens", frame="bert" in architecture)
        return {"path": str(folder), "tokenizer": str(folder / "tokens"), **CASES[architecture]}

    return save


@pytest.fixture
def target(params, opened):
    def open_case(architecture, **changes):
        return opened(**{**params(architecture), **changes})

    return open_case


def twice(loss, parameters, directions):
    first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    bent = [(g, d) for g, d in zip(first, directions, strict=True) if g is not None]
    second = torch.autograd.grad(
        [g for g, _ in bent], parameters, [d for _, d in bent], allow_unused=True, materialize_grads=True
    )
    return torch.cat([h.reshape(-1) for h in second])


def directions_of(parameters):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) for p in parameters]


@pytest.mark.parametrize("architecture", list(CASES))
def test_a_padded_batch_has_the_loss_and_the_second_derivative_of_its_items_taken_singly(
    target, architecture
):
    found = target(architecture, dtype="float64")
    parameters = list(found.module.parameters())
    directions = directions_of(parameters)
    whole = found.batches(ITEMS, batch_size=3, max_tokens=None)
    single = found.batches(ITEMS, batch_size=1, max_tokens=None)
    products = [
        sum(twice(found.loss_sum(batch), parameters, directions) for batch in batches)
        for batches in (whole, single)
    ]
    # Norms and softmax of some architectures round to float32 inside, as their facts say.
    tolerance = 1e-12 if found.facts["narrower_inside"] == "none" else 1e-5
    assert [b.weight for b in whole] == [sum(b.weight for b in single)]
    assert float((products[0] - products[1]).norm() / products[1].norm()) < tolerance
    assert float(products[1].norm()) > 0


@pytest.mark.parametrize("architecture", ["bert masked", "bert classes", "gpt2"])
def test_a_product_is_that_of_the_exact_hessian(target, architecture):
    """The Hessian of PyTorch's own loss on the module's logits, by autograd, restricted to two layers."""
    found = target(architecture, dtype="float64")
    (batch,) = found.batches(ITEMS, batch_size=3, max_tokens=4)
    chosen = [n for n, p in found.module.named_parameters() if p.numel() <= 16][-12:]
    parameters = dict(found.module.named_parameters())
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    scored = batch.inputs.get("labels")
    if scored is None:
        scored = torch.cat([ids[:, 1:].masked_fill(mask[:, 1:] == 0, SKIP), torch.full((3, 1), SKIP)], dim=1)

    def loss(*values):
        given = {"input_ids": ids, "attention_mask": mask}
        replaced = dict(zip(chosen, values, strict=True))
        logits = torch.func.functional_call(found.module, replaced, (), given).logits
        flat = logits.reshape(-1, logits.shape[-1])
        return torch.nn.functional.cross_entropy(flat, scored.reshape(-1), ignore_index=SKIP, reduction="sum")

    values = tuple(parameters[name] for name in chosen)
    blocks = torch.autograd.functional.hessian(loss, values)
    sizes = [v.numel() for v in values]
    exact = torch.cat(
        [
            torch.cat([b.reshape(m, n) for b, n in zip(row, sizes, strict=True)], 1)
            for row, m in zip(blocks, sizes, strict=True)
        ]
    )
    directions = directions_of(values)
    product = twice(found.loss_sum(batch), list(values), directions)
    expected = exact @ torch.cat([d.reshape(-1) for d in directions])
    # Both are float64 throughout; they differ by rounding alone.
    assert float((product - expected).norm() / expected.norm()) < 1e-12


@pytest.mark.parametrize(("architecture", "dims"), [("gpt2", 2), ("bert masked", 2), ("bert classes", 1)])
def test_the_loss_is_a_function_of_the_outputs(target, architecture, dims):
    found = target(architecture, dtype="float64")
    (batch,) = found.batches(ITEMS, batch_size=3, max_tokens=None)
    outputs = found.outputs(batch)
    labels = {"gpt2": (3, 7), "bert masked": (3, 10), "bert classes": (3,)}[architecture]
    assert (found.sample_dims, tuple(outputs.shape[:dims])) == (dims, labels)
    torch.testing.assert_close(found.output_loss(outputs, batch), found.loss_sum(batch), rtol=1e-13, atol=0)


# Masks


def test_masked_tokens_are_scored_by_what_was_there_and_nothing_else_is(target):
    found = target("bert masked", dtype="float64", mask_rate=0.5)
    (batch,) = found.batches(ITEMS, batch_size=3, max_tokens=None)
    plain = [[1, *[found._reading.tokenizer.vocab[w] for w in item.text.split()], 2] for item in ITEMS]
    for ids, labels, row in zip(
        batch.inputs["input_ids"].tolist(), batch.inputs["labels"].tolist(), plain, strict=True
    ):
        hidden = [i for i, label in enumerate(labels) if label != SKIP]
        assert hidden and all(ids[i] == MASK and labels[i] == row[i] for i in hidden)
        assert [ids[i] for i in range(len(row)) if i not in hidden] == [
            token for i, token in enumerate(row) if i not in hidden
        ]
        assert not {0, len(row) - 1} & set(hidden)
    assert batch.weight == float((batch.inputs["labels"] != SKIP).sum())

    logits = found.outputs(batch).log_softmax(-1)
    spots = (batch.inputs["labels"] != SKIP).nonzero().tolist()
    expected = -sum(logits[b, t, batch.inputs["labels"][b, t]].item() for b, t in spots)
    assert found.loss_sum(batch).item() == pytest.approx(expected, rel=1e-12)


def test_a_mask_depends_on_seed_and_item_and_not_on_order_or_company(target):
    found = target("bert masked", mask_rate=0.4)

    def labels(items, batch_size, source=found):
        batches = source.batches(items, batch_size=batch_size, max_tokens=None)
        rows = [(i, r) for b in batches for i, r in zip(b.item_ids, b.inputs["labels"].tolist(), strict=True)]
        return {i: [t for t in enumerate(row) if t[1] != SKIP] for i, row in rows}

    assert labels(ITEMS, 3) == labels(ITEMS[::-1], 1)
    assert labels(ITEMS, 3) != labels(ITEMS, 3, target("bert masked", mask_rate=0.4, mask_seed=1))
    alike = [StimulusItem(name, "air " * 12) for name in ("one", "two")]
    one, two = labels(alike, 2).values()
    assert one != two


def test_the_share_of_masked_tokens_is_the_rate_and_every_item_has_one():
    masking = Masking(0.15, 3)
    counts = [len(masking.positions(StimulusItem(str(n), ""), [5] * 40, [False] * 40)) for n in range(1000)]
    # Binomial: 40,000 draws at 0.15 have a standard deviation of 71; an empty item adds one (0.1% of them).
    assert abs(sum(counts) - 6000) < 5 * 71
    assert min(counts) >= 1
    assert Masking(1e-9, 0).positions(StimulusItem("x", ""), [5] * 4, [True, False, False, True])[0] in (1, 2)


def test_masking_is_part_of_the_record(target):
    facts = target("bert masked", mask_rate=0.25, mask_seed=9).facts
    names = ("task", "loss", "mask_rate", "mask_seed", "mask_token", "architecture", "attention")
    assert [facts[name] for name in names] == [
        "masked-lm", "1 masked-token", "0.25", "9", "<mask>", "BertForMaskedLM", "eager"
    ]  # fmt: skip


def test_max_tokens_cuts_inside_the_frame_of_special_tokens(target):
    found = target("bert masked")
    (batch,) = found.batches(ITEMS[:1], batch_size=1, max_tokens=5)
    assert batch.inputs["input_ids"].shape == (1, 5)
    assert batch.inputs["input_ids"][0, [0, -1]].tolist() == [1, 2]
    with pytest.raises(BadInput, match="special tokens alone are 2"):
        found.batches(ITEMS[:1], batch_size=1, max_tokens=2)


def test_what_cannot_be_masked_is_refused(target, tmp_path, opened, save_tiny):
    with pytest.raises(BadInput, match="all of them are special"):
        target("bert masked").batches([StimulusItem("odd", "<pad>")], batch_size=1, max_tokens=None)
    folder = save_tiny(tmp_path / "maskless", "bert masked", words=["<pad>", "<s>", "</s>", "cold"])
    with pytest.raises(BadInput, match="the tokenizer has no mask token"):
        opened(folder, task="masked-lm")


def test_a_roberta_reads_as_many_tokens_as_its_positions_after_padding(target):
    found = target("roberta masked")
    found.batches([StimulusItem("full", "air " * 14)], batch_size=1, max_tokens=None)
    with pytest.raises(BadInput, match="has 17 tokens, and the model reads at most 16"):
        found.batches([StimulusItem("more", "air " * 15)], batch_size=1, max_tokens=None)


# Labels


def test_labels_are_the_names_or_numbers_of_the_model(target):
    (batch,) = target("bert classes").batches(ITEMS, batch_size=3, max_tokens=None)
    assert (batch.inputs["labels"].tolist(), batch.weight) == ([0, 2, 1], 3.0)
    facts = target("bert classes").facts
    assert (facts["labels"], facts["label_attribute"], facts["loss"]) == (
        "0 contested, 1 ground_truth, 2 foil",
        "tier",
        "1 label",
    )


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"tier": "unknown"}, "label 'unknown'.*0 contested, 1 ground_truth, 2 foil"),
        ({"tier": "3"}, "label '3', which the model does not know"),
        ({"side": "a"}, "no attribute 'tier'.*one of its attributes: side"),
    ],
)
def test_a_label_that_the_model_does_not_know_is_refused(target, attributes, message):
    item = StimulusItem("odd", "it rains", attributes)
    with pytest.raises(BadInput, match=f"(?s){message}"):
        target("bert classes").batches([item], batch_size=1, max_tokens=None)


def test_an_item_that_ends_in_padding_is_refused_by_a_classifier(target):
    item = StimulusItem("odd", "it rains <pad>", {"tier": "foil"})
    with pytest.raises(BadInput, match="ends in the padding token"):
        target("gpt2 classes").batches([item], batch_size=1, max_tokens=None)


def test_a_decoder_whose_configuration_names_no_padding_reads_padded_batches_like_single_items(
    tmp_path, opened, tiny, save_tokenizer
):
    model = tiny("gpt2 classes")
    model.config.pad_token_id = None
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    found = opened(tmp_path, dtype="float64", **CASES["gpt2 classes"])
    (whole,) = found.batches(ITEMS, batch_size=3, max_tokens=None)
    single = found.batches(ITEMS, batch_size=1, max_tokens=None)
    logits = torch.cat([found.outputs(batch) for batch in single])
    torch.testing.assert_close(found.outputs(whole), logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "setting", [{"problem_type": "regression"}, {"problem_type": "multi_label_classification"}]
)
def test_a_model_that_gives_no_single_label_is_refused(tmp_path, opened, tiny, save_tokenizer, setting):
    model = tiny("bert classes")
    model.config.update(setting)
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(BadInput, match=f"the model does {setting['problem_type']}"):
        opened(tmp_path, **CASES["bert classes"])


# Loss terms


def _entropy(outputs):
    log = outputs.logits.log_softmax(-1)
    return -(log.exp() * log).sum()


def test_a_loss_term_of_another_plugin_takes_part_in_the_loss(params):
    source, own = atlas_targets()["hf"], params("bert classes")
    term = LossTerm("entropy", "sequence-classification", _entropy, 1.0, "model", "-p log p", "none")
    both = {**own, "loss": {"label": 1.0, "entropy": 0.5}}
    found = source.open(both, threads=1, loss_terms={"entropy": term})
    (batch,) = found.batches(ITEMS, batch_size=3, max_tokens=None)
    plain = source.open(own, threads=1)
    probabilities = plain.outputs(batch).softmax(-1)
    expected = plain.loss_sum(batch) - 0.5 * (probabilities * probabilities.log()).sum()
    torch.testing.assert_close(found.loss_sum(batch), expected)
    assert found.facts["loss"] == "1 label + 0.5 entropy"
    assert source.outline(both) is None


def test_a_loss_term_of_another_task_is_refused(target, params):
    with pytest.raises(BadInput, match="there is no loss term 'next-token'"):
        target("bert masked", loss={"next-token": 1.0})
    term = LossTerm("other", "causal-lm", _entropy, 1.0, "model", "", "none")
    with pytest.raises(BadInput, match="'other' reads 'causal-lm', and the target's task is 'masked-lm'"):
        atlas_targets()["hf"].open(
            {**params("bert masked"), "loss": {"other": 1.0}}, threads=1, loss_terms={"other": term}
        )


# Heads


@pytest.mark.parametrize(
    ("saved", "task", "named"),
    [
        ("bert bare", "bert masked", "cls.predictions"),
        ("bert masked", "bert classes", "classifier"),
        ("distilbert bare", "distilbert classes", "classifier"),
        ("gpt2", "gpt2 classes", "score.weight"),
    ],
)
def test_a_checkpoint_without_the_head_is_refused_by_the_names_of_its_weights(
    tmp_path, opened, save_tiny, saved, task, named
):
    with pytest.raises(BadInput, match=f"weights are missing from the file: .*{named}"):
        opened(save_tiny(tmp_path, saved, frame=True), **CASES[task])


def test_an_architecture_without_the_task_is_refused(folder, opened):
    with pytest.raises(BadInput, match="'gpt2' is no masked language model"):
        opened(folder, task="masked-lm")


@pytest.mark.parametrize("architecture", list(CASES))
def test_every_task_has_an_outline_that_is_differentiable_twice(params, target, architecture):
    outline = atlas_targets()["hf"].outline(params(architecture))
    made = outline.batches(ITEMS, batch_size=3, max_tokens=None)
    real = target(architecture).batches(ITEMS, batch_size=3, max_tokens=None)
    assert [({k: v.shape for k, v in b.inputs.items()}, b.weight) for b in made] == [
        ({k: v.shape for k, v in b.inputs.items()}, b.weight) for b in real
    ]
    parameters = list(outline.module.parameters())
    empty = [torch.empty_like(p) for p in parameters]
    assert twice(outline.loss_sum(made[0]), parameters, empty).is_meta
