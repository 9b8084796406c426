import math
from pathlib import Path

import pytest

MANIFEST = Path(__file__).parents[1] / "manifest.yaml"


def test_the_curvature_is_the_one_that_is_known(atlas):
    outcome = atlas("run", str(MANIFEST))
    assert outcome.code == 0, outcome.err

    shown = atlas.show(atlas.runs()[0].name)["quantities"]
    top = next(quantity for quantity in shown if quantity["quantity"] == "lambda_max")

    # of [[7, 7/3], [7/3, 1]], the mean of [[x^2, x], [x, 1]] over 1, 2 and 4
    assert top["value"] == pytest.approx(4 + math.sqrt(9 + 49 / 9), rel=1e-6)


def test_a_text_that_is_no_number_stops_the_run_with_the_reason(atlas):
    outcome = atlas("run", str(MANIFEST), "--set", 'stimulus.texts=["one"]')

    assert outcome.code == 2
    assert "no number" in outcome.err
