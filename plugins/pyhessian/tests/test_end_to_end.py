"""Real runs on tiny language models: blocks, directions, density, a series, and their pictures as files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from atlas_pyhessian.commands import pictures
from click.testing import CliRunner

from atlas.errors import BadInput
from atlas.testing import Atlas

CHECKPOINTS = """\
import sys, torch, transformers
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers
words = ["<pad>", "cold", "warm", "air", "holds", "less", "more", "water", "light"]
torch.manual_seed(0)
config = transformers.GPT2Config(
    vocab_size=12, n_embd=8, n_layer=2, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
)
model = transformers.GPT2LMHeadModel(config)
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<pad>"
)
for step in (1, 10, 1000):
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    folder = Path(sys.argv[1]) / f"step{step}"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
"""
HEAD = """\
atlas: 1
name: tiny
lineage: TST
seed: 3
governance: none
stimulus: {use: text, texts: [cold air holds less water, warm air holds more water]}
"""
LONE = """\
targets:
  now: {use: hf, path: step10}
  later: {use: hf, path: step1000}
steps:
  - id: curvature
    use: pyhessian
    target: now
    params: {top_k: 2, density: {probes: 2, steps: 6}, blocks: layers, along: [gradient, later]}
"""
SERIES = """\
targets:
  lm: {use: hf, series: {path: [step1, step10, step1000]}}
steps:
  - {id: curvature, use: pyhessian, target: lm, params: {top_k: 2, density: {probes: 2, steps: 6}}}
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    subprocess.run([sys.executable, "-c", CHECKPOINTS, str(folder)], check=True, capture_output=True)
    return folder


def run(folder: Path, manifest: str) -> tuple[Atlas, str]:
    atlas = Atlas(folder, {})
    atlas.write("m.yaml", HEAD + manifest)
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    return atlas, atlas.runs()[-1].name


@pytest.mark.slow
def test_a_run_measures_blocks_and_directions_and_draws_them(checkpoints: Path) -> None:
    atlas, name = run(checkpoints, LONE)
    tables = atlas.view(name).tables("curvature")
    blocks = ["transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.h.1", "transformer.ln_f"]
    assert [row["block"] for row in tables["blocks"]] == blocks
    assert [row["direction"] for row in tables["directions"]] == ["gradient", "later"]
    assert [row["position"] for row in tables["path"]][-1] == 1.0
    written = atlas("pictures", name, "--kind", "png", "--out", "drawn")
    assert written.code == 0, written.err
    found = {path.name: path.read_bytes()[:4] for path in (checkpoints / "drawn").iterdir()}
    stems = ("spectrum", "blocks", "tensors", "path-later")
    assert found == {f"{name}-curvature-{stem}.png": b"\x89PNG" for stem in stems}
    page = (atlas.view(name).root / "report.html").read_text()
    assert page.count("data:image/svg+xml") == len(stems)


@pytest.mark.slow
def test_a_run_over_a_series_has_its_table_and_its_pictures(checkpoints: Path) -> None:
    atlas, name = run(checkpoints, SERIES)
    rows = atlas.view(name).tables("curvature")["series"]
    assert [(row["label"], row["step"]) for row in rows] == [("step1", 1), ("step10", 10), ("step1000", 1000)]
    assert {q.slice for _, q in atlas.view(name).quantities()} == {"step1", "step10", "step1000"}
    written = atlas("pictures", name, "--out", "series")
    assert written.code == 0, written.err
    stems = {path.name.removeprefix(f"{name}-curvature-") for path in (checkpoints / "series").iterdir()}
    assert {"series.svg", "density-series.svg", "slices.svg", "spectrum-step1000.svg"} <= stems


class Desk:
    """A workspace with one governed run whose measurement is done and which nobody has read."""

    run_id, governed, gates = "PYH-TST-20260101-001", True, {}

    def view(self, run):
        return self

    def last(self, kind):
        return None

    def of(self, *kinds):
        return iter(
            [type("Event", (), {"data": {"stage": "measure"}, "seq": 7})] if "stage-done" in kinds else []
        )


def test_pictures_of_a_governed_run_are_closed_until_somebody_has_read_the_numbers(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(pictures, ["RUN", "--out", str(tmp_path / "drawn")], obj=Desk())
    assert isinstance(outcome.exception, BadInput)
    assert "are closed: nobody has written down yet what they see" in str(outcome.exception)
    assert not (tmp_path / "drawn").exists()
