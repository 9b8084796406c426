"""The adapter `local`, on a real model of two layers with random weights, saved as people save theirs."""

import json

import pytest
from atlas_synthesis.local import Local, framed
from atlas_synthesis.roles import package_of

from atlas.errors import BadInput

PACKAGE = package_of("synthesis", {"raw/counts/quantities.csv": b"quantity,value\r\nitems,24\r\n"})
SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"


class Meeting:
    def __init__(self):
        self.brought = None
        self.notes = []

    def note(self, name, detail):
        self.notes.append(name)

    def begun(self, detail):
        self.notes.append("output begun")


@pytest.fixture(scope="module")
def model(tmp_path_factory, save_model):
    folder = tmp_path_factory.mktemp("tiny")
    save_model(folder)
    return folder


def submit(path, *, package=PACKAGE, **changes):
    params = {"path": str(path), "temperature": 0, "seed": 0, "max_tokens": 8, "dtype": "float32", **changes}
    meeting = Meeting()
    return Local().submit(package, params, meeting), meeting


def test_the_model_receives_the_message_in_the_marks_of_one_turn_and_what_it_made_is_kept(model):
    answer, meeting = submit(model)

    frame = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    told = answer.files["request.txt"].decode()
    made = json.loads(answer.files["response.json"])
    assert told == PACKAGE.upload.decode().strip().join(frame)
    assert (made["text"], len(made["tokens_out"])) == (answer.text, 8)
    assert answer.facts["stopped_by"] == "length"
    assert meeting.notes == ["one upload", "output begun"]


def test_answers_are_greedy_at_temperature_0_and_drawn_by_the_seed_above(model):
    greedy = [submit(model, seed=seed)[0].text for seed in (0, 1)]
    drawn = [submit(model, seed=seed, temperature=1.0)[0].text for seed in (0, 0, 1)]

    assert greedy[0] == greedy[1]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_system_prompt_of_the_template_is_left_empty(tmp_path, save_model):
    tokenizer = save_model(tmp_path, before=SYSTEM)

    message = framed(tokenizer, "What is counted?\n")

    turns = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nWhat is counted?<|im_end|>\n"
    assert message.text == turns + "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("before", "fault"),
    [("Answer briefly. ", "adds words.*Answer briefly"), ("{% set messages = [] %}", "changes the")],
)
def test_a_template_that_adds_words_or_changes_the_message_is_refused(tmp_path, save_model, before, fault):
    tokenizer = save_model(tmp_path, before=before)

    with pytest.raises(BadInput, match=fault):
        framed(tokenizer, "What is counted?")


def test_a_package_longer_than_the_context_is_refused(tmp_path, save_model):
    save_model(tmp_path, context=64)

    with pytest.raises(BadInput, match="the model takes 64"):
        submit(tmp_path)


def test_a_folder_without_safe_weights_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")

    with pytest.raises(BadInput, match="no weights in safetensors or GGUF"):
        submit(tmp_path)


@pytest.mark.slow
def test_a_gguf_file_is_a_model_too_and_without_a_template_receives_the_message_as_it_is(tmp_path, save_gguf):
    package = package_of("synthesis", {"raw/a/t.csv": b"a\r\n1\r\n"})

    answer, _ = submit(save_gguf(tmp_path / "tiny.gguf"), package=package, max_tokens=4)

    assert answer.files["request.txt"] == package.upload
    assert "sha256:tiny.gguf" in answer.facts
    assert len(json.loads(answer.files["response.json"])["tokens_out"]) <= 4
