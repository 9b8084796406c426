from __future__ import annotations

import random

import pytest
import torch

from atlas.contracts import StimulusItem
from atlas.errors import BadInput


@pytest.fixture
def gguf_file(tmp_path, save_gguf):
    return save_gguf(tmp_path / "tiny.gguf")


def test_a_gguf_file_is_dequantised_and_the_record_says_from_what(gguf_file, opened):
    facts = opened(gguf_file).facts
    chosen = ("dequantised_from", "weights_format", "dtype", "weights_unused")
    assert [facts[key] for key in chosen] == ["GGUF Q8_0", "gguf", "float32", "none"]


def test_the_dequantised_weights_are_those_of_the_gguf_library(gguf_file, opened):
    import gguf

    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(gguf_file).tensors}
    state = opened(gguf_file).module.state_dict()
    for theirs, ours in [
        ("blk.1.ffn_down", "layers.1.mlp.down_proj"),
        ("blk.0.attn_v", "layers.0.self_attn.v_proj"),
    ]:
        tensor = stored[f"{theirs}.weight"]
        expected = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type))
        assert torch.equal(state[f"model.{ours}.weight"], expected)


def test_the_tokenizer_of_a_gguf_file_is_used(gguf_file, opened):
    (batch,) = opened(gguf_file).batches([StimulusItem("x", "the the")], batch_size=1, max_tokens=None)
    ids = batch.inputs["input_ids"][0].tolist()
    assert (ids[0], ids[-1], len(ids)) == (260, 260, 3)  # the, a space, the


def test_a_damaged_gguf_file_is_refused_whatever_the_reader_raises(gguf_file, opened):
    whole = gguf_file.read_bytes()
    generator = random.Random(0)
    kinds = set()
    for trial in range(40):
        data = bytearray(whole)
        if trial % 4 == 0:
            data = data[: generator.randrange(len(data) // 2)]
        else:
            for _ in range(8):
                data[generator.randrange(400)] = generator.randrange(256)
        gguf_file.write_bytes(bytes(data))
        with pytest.raises(
            BadInput, match=r"the GGUF file cannot be read|out of memory|tokeni[sz]er"
        ) as caught:
            opened(gguf_file)
        kinds.add(type(caught.value.__cause__).__name__)
    assert len(kinds) > 2
