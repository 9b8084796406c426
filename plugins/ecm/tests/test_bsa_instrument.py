import json
import math
from collections import Counter

import pytest
import torch
import yaml
from atlas_cisp.contamination import built_in
from atlas_ecm.claims import load
from atlas_ecm.likelihood import Question, read_answers_of
from atlas_ecm.records import record_facts
from atlas_ecm.wordings import FORMS

from atlas.contracts import Batch
from atlas.errors import InstrumentFailed

RELEASE = load("0.2")
DIGITS = tuple(f" {digit}" for digit in range(10))


class Counting:
    """A target over bytes whose only wish is to say `9`, the more of them the more `z` it has read.

    The logit of `9` after each byte is the number of `z` up to it; all other logits are zero.
    """

    def batches(self, items, *, batch_size, max_tokens):
        encoded = [list(item.text.encode()) for item in items]
        for start in range(0, len(encoded), batch_size):
            rows = encoded[start : start + batch_size]
            width = max(map(len, rows))
            ids = torch.tensor([row + [ord("z")] * (width - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            yield Batch({"input_ids": ids, "attention_mask": mask}, float(mask.sum()))

    def outputs(self, batch):
        logits = torch.zeros(*batch.inputs["input_ids"].shape, 256)
        logits[:, :, ord("9")] = (batch.inputs["input_ids"] == ord("z")).cumsum(1).float()
        return logits[:, :-1]


def test_probabilities_are_those_of_the_logits_where_the_answers_part():
    # Oracle: after k times `z`, `9` has e^k / (e^k + 255) and every other byte 1 / (e^k + 255). Prompts of
    # different lengths share padded batches. Tolerance: float32 logits, softmax in float64.
    prompts = ["zz, how many?", "z?", "and none here at all:", "zzzz"]
    questions = [Question(f"q{n}", prompt, DIGITS) for n, prompt in enumerate(prompts)]

    readings = read_answers_of(Counting(), questions, batch_size=3)

    for prompt, reading in zip(prompts, readings, strict=True):
        nine = math.exp(prompt.count("z"))
        assert reading.probabilities == pytest.approx(
            [1 / (nine + 255)] * 9 + [nine / (nine + 255)], rel=1e-6
        )


def test_a_score_is_the_mean_of_the_points_weighted_by_the_answers_probabilities():
    wording = FORMS["digits"][0]
    reading = read_answers_of(Counting(), [Question("q", "zzz", DIGITS)], batch_size=1)[0]

    nine = math.exp(3)
    assert reading.mass == pytest.approx((nine + 9) / (nine + 255), rel=1e-6)
    assert reading.expect(tuple(wording.answers.values())) == pytest.approx(
        100 / 9 * (9 * nine + 36) / (nine + 9), rel=1e-6
    )


@pytest.mark.parametrize("answers", [(" No", " Nope", " Yes"), (" Yes", " Yes please")])
def test_answers_that_one_token_does_not_tell_apart_are_refused(answers):
    with pytest.raises(InstrumentFailed, match="does not tell the answers"):
        read_answers_of(Counting(), [Question("bsa-001a", "Is it?", answers)], batch_size=1)


@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_likes_an_answer_whatever_the_claim_scores_fifty(form):
    points: Counter[str] = Counter()
    for wording in FORMS[form]:
        points.update(wording.answers)

    assert list(points.values()) == pytest.approx([50 * len(FORMS[form])] * len(points))


def test_no_wording_holds_a_word_of_the_vocabulary():
    prompts = {w.id: w.prompt(RELEASE.claims[0].text) for form in FORMS.values() for w in form}

    assert [name for name, text in prompts.items() if built_in().findings(text)] == []


# The whole way: two local models and a file of a third


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two models of random weights that read bytes, and a file of a third model's answers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("bsa")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=256,
            n_positions=768,
            n_embd=16,
            n_layer=1,
            n_head=2,
            bos_token_id=None,
            eos_token_id=None,
        )
        GPT2LMHeadModel(config).save_pretrained(root / name)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(root / name)
    rows = [
        {"claim_id": c.id, "model": "web-1", "lineage": "WEB", "score": score, "answer": f"{score}."}
        for c in RELEASE.claims
        if c.pair in ("bsa-008", "bsa-009", "bsa-010")
        for score in ({"true": 90, "fabricated": 20}[c.truth],)
    ]
    (root / "web.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def manifest(folder, **params):
    return yaml.safe_dump(
        {
            "atlas": 1,
            "name": "bsa",
            "lineage": "RND",
            "seed": 7,
            "governance": "none",
            "targets": {
                "lm": {"use": "hf", "series": {"path": [str(folder / n) for n in ("first", "second")]}}
            },
            "stimulus": {"use": "bsa", "version": "0.2", "where": {"domain": "medical", "tier": "foil"}},
            "steps": [{"id": "scores", "use": "bsa", "target": "lm", "params": {"lineage": "RND", **params}}],
        }
    )


def test_a_run_is_a_behavioural_record_of_local_and_brought_models(atlas, folder):
    atlas.write("web.jsonl", (folder / "web.jsonl").read_text())
    atlas.write("m.yaml", manifest(folder, brought="web.jsonl", answers="yes-no"))

    outcome = atlas("run", "m.yaml")

    assert outcome.code == 0, outcome.err
    run = atlas.runs()[0].name
    view = atlas.view(run)
    facts = record_facts(view)
    tables = view.tables("scores")
    assert run.startswith("BSA-RND-")
    assert (facts["minimum"], facts["pairs"], facts["lineages"]) == (
        "met",
        "bsa-008 bsa-009 bsa-010",
        "RND WEB",
    )
    assert len(facts["models"].split()) == 3
    assert (len(tables["bsa-answers"]), len(tables["bsa-readings"])) == (3 * 6, 2 * 6 * 4)
    local = [row for row in tables["bsa-answers"] if row["model"] != "web-1"]
    readings = [row["score"] for row in tables["bsa-readings"] if row["claim_id"] == "bsa-008a"][:4]
    mean = sum(readings) / 4
    deviation = math.sqrt(sum((r - mean) ** 2 for r in readings) / 3)
    assert (local[0]["score"], local[0]["standard_error"]) == pytest.approx((mean, deviation / 2), abs=1e-4)
    auc = {q.slice: q for _, q in view.quantities() if q.quantity == "foil_auc"}["foil"]
    assert 1 / 3 <= auc.value <= 1
    assert "foil_auc" in atlas("bsa", "show", run).out
    assert atlas("verify", run).code == 0
