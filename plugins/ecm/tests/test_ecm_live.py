from __future__ import annotations

import json
from pathlib import Path

import pytest
from atlas_ecm.live.measurement import home_items
from atlas_ecm.live.sessions import hold_sessions, tasks_of

from atlas.contracts import StimulusItem
from atlas.errors import BadInput, InstrumentFailed
from atlas.randomness import RandomStreams

REMEMBERING = """
import os
from pathlib import Path
from atlas.contracts import Generation

SEEN = []


class Remembering:
    facts = {"model": "memory"}

    def generate(self, prompt, *, chat, max_new_tokens, temperature, random):
        if prompt == "die":
            os._exit(7)
        SEEN.append(prompt)
        with Path(os.environ["HELD"]).open("a") as log:
            log.write(prompt)
        return Generation(" ".join(SEEN), (1, 2), True)
"""
ITEMS = [StimulusItem(name, name) for name in ("a", "b")]
PARAMS = {"sessions": 1, "temperature": 0, "chat": True, "max_new_tokens": 4}
DRAWN = PARAMS | {"sessions": 2, "temperature": 0.5}


@pytest.fixture
def held(tmp_path, monkeypatch):
    """Hold sessions of items with a model that would repeat whatever its process has seen."""
    (tmp_path / "remembering.py").write_text(REMEMBERING)
    (tmp_path / "keep").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HELD", str(tmp_path / "held"))
    monkeypatch.syspath_prepend(tmp_path)
    from remembering import Remembering

    def hold(items):
        tasks = tasks_of(items, RandomStreams(1), PARAMS)
        folders = {"keep": tmp_path / "keep", "scratch": tmp_path}
        return hold_sessions(Remembering, tasks, progress=lambda **said: None, **folders)

    return hold


def test_a_session_sees_nothing_of_those_before_it(held):
    assert [one.output for one in held(ITEMS)] == ["a", "b"]


def test_an_interrupted_step_goes_on_after_the_last_whole_session(held, tmp_path):
    next(held(ITEMS))
    (tmp_path / "keep" / "000001.json").write_text('{"session": "b", "outp')

    assert [one.output for one in held(ITEMS)] == ["a", "b"]
    assert (tmp_path / "held").read_text() == "ab"


def test_a_kept_session_of_another_prompt_is_held_anew(held):
    list(held(ITEMS))

    assert [one.output for one in held(ITEMS[::-1])] == ["b", "a"]


def test_a_process_that_dies_fails_the_step_with_the_sessions_name(held):
    with pytest.raises(InstrumentFailed, match="status 7") as caught:
        list(held([StimulusItem("bsa-001a", "die")]))

    assert caught.value.where == "bsa-001a"


def test_a_sessions_seed_hangs_on_its_item_and_number_alone():
    forth = {task.session: task.seed for task in tasks_of(ITEMS, RandomStreams(1), DRAWN)}
    back = {task.session: task.seed for task in tasks_of(ITEMS[::-1], RandomStreams(1), DRAWN)}
    other = {task.seed for task in tasks_of(ITEMS, RandomStreams(2), DRAWN)}

    assert forth == back
    assert len({*forth.values(), *other}) == 8


def test_sessions_that_would_repeat_each_other_are_refused():
    with pytest.raises(BadInput, match="all sessions of an item are the same"):
        tasks_of(ITEMS, RandomStreams(1), DRAWN | {"temperature": 0})


def test_a_baseline_that_no_item_is_of_is_refused_with_what_items_are():
    items = [StimulusItem("a", "a", {"tier": "contested"}), StimulusItem("b", "b", {"tier": "ground_truth"})]
    assert home_items(items, {"tier": ["ground_truth"]}) == {"b"}
    with pytest.raises(BadInput, match="tier is contested, ground_truth; no item has a teir"):
        home_items(items, {"tier": ["ground_truht"], "teir": ["x"]})


MANIFEST = """
atlas: 1
name: held
lineage: TNY
seed: 1
governance: {use: cisp, version: "1.1", operator: A. Technician}
targets:
  lm: {use: hf, path: ./model}
stimulus:
  use: text
  texts: [the cold air, warm water, the cold air]
steps:
  - {id: sessions, use: ecm-live, target: lm, params: {max_new_tokens: 6}}
"""
READ_0 = """# Read #0
I expect the answers to be cut, and R near two for each of the three prompts. I predict HOLD. An answer
without a word would surprise me very much, and so would a padding above three words.
"""


def _save_tiny(folder: Path, seed: int = 0) -> None:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<s>", "</s>", "the", "cold", "air", "warm", "water"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<s>"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=7, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, eos_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


@pytest.mark.slow
def test_a_governed_run_holds_its_sessions_after_read_0_and_is_a_record_of_its_items(atlas):
    _save_tiny(atlas.folder / "model")
    atlas.write("m.yaml", MANIFEST)
    atlas.write("registry.yaml", "registry: 1\n")
    for plugin in ("cisp", "ecm", "huggingface"):
        assert atlas("registry", "add", plugin).code == 0
    assert atlas("run", "m.yaml").code == 75
    run = atlas.runs()[0].name
    atlas.environment.update(EDITOR="", VISUAL="")
    assert atlas("answer", run, "sanitisation").code == 2
    draft = atlas.view(run).root / "drafts" / "sanitisation.md"
    atlas.write("sheet.md", draft.read_text().replace("[ ]", "[x]"))
    assert atlas("answer", run, "sanitisation", "--file", "sheet.md").code == 0
    assert not list(atlas.view(run).of("step-started"))

    atlas.write("read-0.md", READ_0)
    assert atlas("read", "0", run, "--file", "read-0.md").code == 0
    outcome = atlas("resume", run)
    assert outcome.code == 75, outcome.err
    view = atlas.view(run)
    facts = json.loads(view.text("raw/sessions/facts.json"))
    lines = [json.loads(line) for line in view.read("raw/sessions/held.jsonl").splitlines()]

    assert [line["prompt"] for line in lines] == ["the cold air", "warm water", "the cold air"]
    assert lines[0]["tokens"] == lines[2]["tokens"] != []
    assert facts["pairs"] == "text-1 text-2 text-3"
    assert facts["target.sha256:model.safetensors"]
    assert "the run is one itself" in atlas("tier", run).out


SERIES = """
atlas: 1
name: held
lineage: TNY
seed: 1
governance: none
targets:
  lm: {use: hf, series: {path: [./late, ./early]}}
stimulus:
  use: text
  texts: [the cold air, warm water]
steps:
  - {id: sessions, use: ecm-live, target: lm, params: {max_new_tokens: 6, temperature: 1.0}}
"""


@pytest.mark.slow
def test_each_checkpoint_of_a_series_is_a_model_that_was_put_the_same_prompts_with_the_same_seeds(atlas):
    for seed, name in enumerate(("late", "early")):
        _save_tiny(atlas.folder / name, seed)
    atlas.write("m.yaml", SERIES)

    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    view = atlas.view(atlas.runs()[0].name)
    tables = view.tables("sessions")
    seeds = {row["session"]: row["seed"] for row in tables["ecm-held"]}

    assert [(row["session"], row["model"]) for row in tables["ecm-sessions"]] == [
        ("late/text-1", "late"),
        ("late/text-2", "late"),
        ("early/text-1", "early"),
        ("early/text-2", "early"),
    ]
    assert seeds["late/text-1"] == seeds["early/text-1"] != seeds["early/text-2"]
    assert [q.slice for _, q in view.quantities() if q.quantity == "token_ratio"] == ["late", "early"]
    assert [q.slice for _, q in view.quantities() if q.quantity == "cut_share"] == ["late", "early"]
    facts = json.loads(view.text("raw/sessions/facts.json"))
    assert facts["target.late.sha256:model.safetensors"] != facts["target.early.sha256:model.safetensors"]
