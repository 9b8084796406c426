from pathlib import Path
from types import SimpleNamespace

import torch
from atlas_newcomer_name.plugin import atlas_loss_terms

from atlas.testing import LossTermContract

MANIFEST = Path(__file__).parents[1] / "manifest.yaml"
TERM = atlas_loss_terms()["newcomer-name"]


def outputs(reconstruction, x):
    return SimpleNamespace(x=x, decoding=SimpleNamespace(reconstruction=reconstruction))


class TestContract(LossTermContract):
    """What holds for every loss term; see `atlas.testing`."""

    term = TERM

    def example(self, parameters):
        x = torch.linspace(0, 1, 12, dtype=torch.float64).view(3, 4)
        return outputs(torch.tanh(parameters[:12].view(3, 4)), x)


def test_the_value_is_the_fourth_moment():
    found = TERM.function(outputs(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2)))

    assert found.item() == 8.0  # (16 + 0) / 2


def test_a_manifest_trains_with_it_and_shows_its_curve(atlas):
    outcome = atlas("run", str(MANIFEST))
    assert outcome.code == 0, outcome.err

    curves = atlas.view(atlas.runs()[0].name).tables("train")["curves"]

    assert "newcomer-name" in {row["term"] for row in curves}
