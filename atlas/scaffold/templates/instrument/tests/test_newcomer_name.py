from pathlib import Path

from atlas.testing import InstrumentContract

MANIFEST = Path(__file__).parents[1] / "manifest.yaml"


class TestContract(InstrumentContract):
    """What holds for every instrument; see `atlas.testing`."""

    manifest = MANIFEST
    step = "measured"


def test_the_items_of_the_manifest_have_their_mean_length(atlas):
    outcome = atlas("run", str(MANIFEST))
    assert outcome.code == 0, outcome.err

    quantity = atlas.show(atlas.runs()[0].name)["quantities"][0]

    # 19 and 50 characters
    assert (quantity["quantity"], quantity["value"]) == ("item_length", 34.5)


def test_a_single_item_stops_the_run_with_the_reason(atlas):
    outcome = atlas("run", str(MANIFEST), "--set", "stimulus.limit=1")

    assert outcome.code == 5
    assert "needs 2" in outcome.err
