"""The curvature instrument by the contract that every instrument has to pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.testing import InstrumentContract

MANIFEST = """\
atlas: 1
name: contract
lineage: TST
seed: 3
governance: none
targets:
  lm: {use: hf, path: model, dtype: float64}
stimulus: {use: text, texts: [cold air holds less water, warm air holds more water]}
steps:
  - {id: curvature, use: pyhessian, target: lm, params: {top_k: 2, trace: {max_probes: 4}}}
"""


@pytest.mark.slow
class TestCurvature(InstrumentContract):
    """On a GPT-2 of one layer."""

    step = "curvature"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Write the manifest and the model that it names."""
        import torch
        import transformers
        from tokenizers import Tokenizer, models, pre_tokenizers

        folder = tmp_path_factory.mktemp("contract")
        words = ["<pad>", "cold", "warm", "air", "holds", "less", "more", "water"]
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=8, n_embd=8, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
        )
        transformers.GPT2LMHeadModel(config).save_pretrained(folder / "model")
        tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<pad>"
        ).save_pretrained(folder / "model")
        cls.manifest: Path = folder / "m.yaml"
        cls.manifest.write_text(MANIFEST, encoding="utf-8")
