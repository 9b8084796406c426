"""What holds for every instrument, of those that read a loss surface."""

from pathlib import Path

import pytest

from atlas.testing import InstrumentContract

pytestmark = pytest.mark.slow

HEAD = """\
atlas: 1
name: small-surface
lineage: EX
seed: 3
governance: none
targets: {{lm: {{use: hf, path: {model}, dtype: float64}}}}
stimulus: {{use: text, texts: [cold air holds less, warm air holds more]}}
steps:
"""


class _OnTinyModel(InstrumentContract):
    steps: str

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def written(cls, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> None:
        """Write the manifest."""
        cls.manifest = tmp_path_factory.mktemp("contract") / "m.yaml"
        cls.manifest.write_text(HEAD.format(model=tiny_model) + cls.steps, encoding="utf-8")


class TestPotential(_OnTinyModel):
    """Of two texts."""

    steps = "  - {id: drop, use: potential, target: lm, params: {tokens: 0}}\n"
    step = "drop"


class TestHarmonics(_OnTinyModel):
    """Of two eigenvalues."""

    steps = """\
  - {id: curvature, use: pyhessian, target: lm, params: {top_k: 2, trace: {max_probes: 2}}}
  - {id: modes, use: harmonics, params: {rate: 0.02, momentum: 0.8}, sees: [{from: curvature.raw}]}
"""
    step = "modes"
