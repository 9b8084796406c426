"""The hosted notebook runs from its first cell to its last, with a small model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "curvature.ipynb"


@pytest.mark.slow
def test_the_notebook_measures_shows_and_packs(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    model = _tiny_model(tmp_path / "model")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source += f"\nMODEL, TOKENS, TOP_K = {str(model)!r}, 12, 2\n"

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in shown)
    assert re.search(r"^lambda_max +\S+ +\S+  residual_bound$", text, re.M)
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 1
    assert "nothing is wrong" in text
    assert len(list((tmp_path / "bundles").glob("*.zip"))) == 1
    assert any("text/html" in output.get("data", {}) for output in notebook.cells[-1].outputs)


def _tiny_model(folder: Path) -> Path:
    """Save a GPT-2 of one layer with a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*alphabet, "<end>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(2)
    config = GPT2Config(vocab_size=len(vocabulary), n_embd=8, n_layer=1, n_head=2, n_positions=32)
    config.bos_token_id = config.eos_token_id = vocabulary["<end>"]
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
