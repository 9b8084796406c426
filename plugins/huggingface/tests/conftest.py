from __future__ import annotations

from pathlib import Path

import pytest
from atlas_huggingface.plugin import atlas_targets
from atlas_huggingface.transformers_border import load_transformers

transformers = load_transformers()

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "cold",
    "warm",
    "air",
    "holds",
    "less",
    "more",
    "water",
    "light",
    "bends",
    "in",
]
WORDS += ["the", "it", "rains", "often", "<mask>"]
ROWS = 24


def _save_tokenizer(folder: Path, *, words=WORDS, bos=False, frame=False) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", words.index("<s>"))]
        )
    if frame:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[(name, words.index(name)) for name in ("<s>", "</s>")]
        )
    mask = {"mask_token": "<mask>"} if "<mask>" in words else {}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<pad>",
        **mask,
    ).save_pretrained(folder)


def _tiny(architecture: str):
    """A model by the name of its architecture: `gpt2`, or with another head `bert masked`, `gpt2 classes`."""
    import torch

    torch.manual_seed(0)
    kind, _, head = architecture.partition(" ")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    common = {"vocab_size": ROWS, "pad_token_id": 0}
    if head == "classes":
        common["id2label"] = {0: "contested", 1: "ground_truth", 2: "foil"}
        common["label2id"] = {"contested": 0, "ground_truth": 1, "foil": 2}
    grouped = {**small, "hidden_size": 32, "num_key_value_heads": 1, "max_position_embeddings": 16}
    configs = {
        "gpt2": lambda: transformers.GPT2Config(**common, n_positions=16, n_embd=16, n_layer=2, n_head=2),
        "llama": lambda: transformers.LlamaConfig(**common, **grouped),
        "qwen2": lambda: transformers.Qwen2Config(**common, **grouped),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**common, **small, max_position_embeddings=16),
        "bert": lambda: transformers.BertConfig(**common, **small, max_position_embeddings=16),
        "roberta": lambda: transformers.RobertaConfig(**common, **small, max_position_embeddings=17),
        "distilbert": lambda: transformers.DistilBertConfig(
            **common, dim=16, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=16
        ),
    }
    heads = {
        "": transformers.AutoModelForCausalLM,
        "masked": transformers.AutoModelForMaskedLM,
        "classes": transformers.AutoModelForSequenceClassification,
        "bare": transformers.AutoModel,
    }
    return heads[head].from_config(configs[kind]())


def _save_tiny(folder: Path, architecture: str = "gpt2", **options) -> Path:
    _tiny(architecture).save_pretrained(folder)
    _save_tokenizer(folder, **options)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """A whole tiny GPT-2 that a test may damage."""
    return _save_tiny(tmp_path / "model")


@pytest.fixture
def opened():
    source = atlas_targets()["hf"]

    def open_target(path, **params):
        return source.open({"path": str(path), **params}, threads=1)

    return open_target


@pytest.fixture
def tiny():
    """Makes a randomly initialised model, always the same, of a few thousand weights."""
    return _tiny


@pytest.fixture
def save_tiny():
    """Saves such a model with its tokenizer into a folder."""
    return _save_tiny


@pytest.fixture
def save_tokenizer():
    """Saves a tokenizer of whole words into a folder."""
    return _save_tokenizer


def _save_gguf(path: Path) -> Path:
    """A Llama of two layers as llama.cpp would write it: Q8_0 matrices, float32 norms, byte-level tokens."""
    import gguf
    import numpy as np
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    hidden, wide, layers = 32, 64, 2
    alphabet = list(bytes_to_unicode().values())
    tokens = ["<pad>", "<s>", "</s>", *alphabet, "th", "the"]
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["t h", "th e"])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {"token_embd": (len(tokens), hidden)}
    for layer in range(layers):
        shapes |= {f"blk.{layer}.attn_{part}": (hidden, hidden) for part in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.ffn_{part}": (wide, hidden) for part in ("gate", "up")}
        shapes[f"blk.{layer}.ffn_down"] = (hidden, wide)
    for name, shape in shapes.items():
        data = gguf.quantize(rng.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for name in ["output_norm", *(f"blk.{i}.{part}_norm" for i in range(layers) for part in ("attn", "ffn"))]:
        writer.add_tensor(f"{name}.weight", np.ones(hidden, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def save_gguf():
    """Writes such a file."""
    return _save_gguf
