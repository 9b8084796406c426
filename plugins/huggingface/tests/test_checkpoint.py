from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from atlas.errors import BadInput

ROWS = 24
"""Rows of the embedding of the tiny models in conftest.py."""


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_a_missing_folder_is_named(tmp_path, opened):
    with pytest.raises(BadInput, match=r"nowhere: there is no such file or folder"):
        opened(tmp_path / "nowhere")


def test_a_folder_without_weights_lists_the_files_that_could_be_meant(folder, opened):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(BadInput, match=r"name the file itself: other\.safetensors"):
        opened(folder)


def test_a_safetensors_file_is_opened_with_the_files_beside_it(folder, opened):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    target = opened(folder / "other.safetensors")
    assert "sha256:other.safetensors" in target.facts


def test_a_missing_configuration_is_named(folder, opened):
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"config\.json: the configuration of the model is missing"):
        opened(folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "\ud800".encode("utf-16", "surrogatepass"), "[" * 100_000]
)
def test_a_broken_configuration_is_refused(folder, opened, content):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "config.json").write_bytes(data)
    with pytest.raises(BadInput, match=r"config\.json: the file is not"):
        opened(folder)


def test_an_architecture_that_needs_its_own_code_is_refused_and_the_code_is_not_run(folder, opened):
    edit_config(folder, model_type="ours", auto_map={"AutoConfig": "ours.Config"})
    (folder / "ours.py").write_text("raise SystemExit('run')")
    with pytest.raises(BadInput, match="Atlas runs no code from a checkpoint"):
        opened(folder)


def test_quantised_weights_are_refused(folder, opened):
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(BadInput, match="stored quantised"):
        opened(folder)


def test_a_model_that_predicts_no_next_token_is_refused(folder, opened):
    edit_config(folder, model_type="t5")
    with pytest.raises(BadInput, match="'t5' is no causal language model"):
        opened(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_safetensors_are_refused(folder, opened, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"model\.safetensors: the file is no whole safetensors file"):
        opened(folder)


def test_a_missing_weight_is_refused_and_not_made_up(folder, opened):
    rewrite(folder, lambda weights: weights.pop("transformer.h.1.mlp.c_fc.weight"))
    with pytest.raises(
        BadInput, match=r"1 weights are missing from the file: transformer\.h\.1\.mlp\.c_fc\.weight"
    ):
        opened(folder)


def test_a_missing_output_layer_is_refused(tmp_path, opened, tiny, save_tokenizer):
    model = tiny("llama")
    model.model.save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=["LlamaForCausalLM"])
    save_tokenizer(tmp_path)
    with pytest.raises(BadInput, match=r"missing from the file: lm_head\.weight"):
        opened(tmp_path)


def test_weights_of_another_shape_are_refused_with_both_shapes(folder, opened):
    edit_config(folder, vocab_size=ROWS + 8)
    with pytest.raises(
        BadInput, match=rf"\({ROWS}, 16\) in the file and \({ROWS + 8}, 16\) by the configuration"
    ):
        opened(folder)


def test_weights_that_the_model_does_not_use_are_recorded(folder, opened):
    rewrite(folder, lambda weights: weights.update(surplus=torch.zeros(2)))
    assert opened(folder).facts["weights_unused"] == "surplus"


@pytest.mark.parametrize("names", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_missing_tokenizer_is_named(folder, opened, names):
    for name in names:
        (folder / name).unlink()
    with pytest.raises(BadInput, match="there is no tokenizer here"):
        opened(folder)


def test_a_broken_tokenizer_is_refused(folder, opened):
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(BadInput, match="the tokenizer cannot be read"):
        opened(folder)


def test_a_checkpoint_in_parts_is_opened_and_every_part_is_in_the_record(folder, opened, tiny):
    tiny("gpt2").save_pretrained(folder, max_shard_size="10KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    parts = sorted(path.name for path in folder.glob("model-*.safetensors"))
    digests = [key for key in opened(folder).facts if key.startswith("sha256:")]
    assert (len(parts) > 1, digests) == (True, [f"sha256:{name}" for name in parts])


def test_a_missing_part_is_named(folder, opened, tiny):
    tiny("gpt2").save_pretrained(folder, max_shard_size="10KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    part = sorted(folder.glob("model-*.safetensors"))[0]
    part.unlink()
    with pytest.raises(BadInput, match=f"names '{part.name}', which is missing"):
        opened(folder)


def test_an_index_that_leaves_its_folder_is_refused(folder, opened):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../model.safetensors"}}')
    with pytest.raises(BadInput, match="a file outside its folder"):
        opened(folder)


def test_weights_larger_than_memory_are_refused_before_they_are_read(folder, opened):
    size = 1 << 42
    header = json.dumps({"x": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        try:
            stream.truncate(8 + len(header) + size)  # a hole: it takes no room
        except OSError:
            pytest.skip("this file system has no sparse files")
    with pytest.raises(BadInput, match="out of memory: the weights alone need"):
        opened(folder)


def as_pickle(tiny, folder, weights=None):
    (folder / "model.safetensors").unlink()
    torch.save(tiny("gpt2").state_dict() if weights is None else weights, folder / "pytorch_model.bin")


def test_pickled_weights_are_refused_with_the_way_out(folder, opened, tiny):
    as_pickle(tiny, folder)
    with pytest.raises(BadInput, match="set `allow_pickle_weights: weights_only`"):
        opened(folder)


def test_pickled_weights_are_opened_on_request(folder, opened, tiny):
    as_pickle(tiny, folder)
    facts = opened(folder, allow_pickle_weights="weights_only").facts
    assert facts["weights_format"] == "pickle"


class Bomb:
    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_that_holds_more_than_weights_is_refused_and_not_run(folder, opened, capfd, tiny):
    as_pickle(tiny, folder, {"x": Bomb()})
    with pytest.raises(BadInput, match="weights-only loader refuses the file"):
        opened(folder, allow_pickle_weights="weights_only")
    assert "run" not in capfd.readouterr().out


def test_a_pickled_tensor_larger_than_its_bytes_is_refused(folder, opened, tiny):
    as_pickle(tiny, folder, {"x": torch.zeros(1).expand(10**12)})
    with pytest.raises(BadInput, match="'x' claims 4000000000000 bytes, but 4 are in the file"):
        opened(folder, allow_pickle_weights="weights_only")


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"PK\x03\x04 no zip", torch.randn(2)])
def test_a_damaged_pickle_is_refused(folder, opened, content, tiny):
    as_pickle(tiny, folder)
    if isinstance(content, bytes):
        (folder / "pytorch_model.bin").write_bytes(content)
    else:
        torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pytorch_model\.bin: (torch's weights-only|the file is no mapping)"):
        opened(folder, allow_pickle_weights="weights_only")


def test_a_broken_torchvision_does_not_keep_a_text_model_from_opening(folder, tmp_path):
    import subprocess
    import sys

    broken = tmp_path / "site" / "torchvision"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code = (
        f"import sys; sys.path.insert(0, {str(broken.parent)!r})\n"
        "from atlas_huggingface.plugin import atlas_targets\n"
        f"facts = atlas_targets()['hf'].open({{'path': {str(folder)!r}}}, threads=1).facts\n"
        "print(facts['torchvision'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("RuntimeError: operator torchvision::nms does not exist")
