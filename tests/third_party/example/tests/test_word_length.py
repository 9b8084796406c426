from pathlib import Path

from atlas.testing import InstrumentContract

MANIFEST = Path(__file__).parents[1] / "word-length.yaml"


class TestContract(InstrumentContract):
    """What holds for every instrument."""

    manifest = MANIFEST
    step = "lengths"


def test_the_words_of_the_manifest_have_their_mean_length(atlas):
    outcome = atlas("run", str(MANIFEST))
    assert outcome.code == 0, outcome.err

    run = atlas.runs()[0].name
    quantity = atlas.show(run)["quantities"][0]

    # cat sat on mat: 11 letters in 4 words; the other sentence: 46 in 4.
    assert (quantity["quantity"], quantity["value"]) == ("word_length", 57 / 8)


def test_the_table_has_a_row_for_each_text(atlas):
    atlas("run", str(MANIFEST))

    rows = atlas.view(atlas.runs()[0].name).tables("lengths")["words"]

    assert [(row["words"], row["letters"]) for row in rows] == [(4, 11), (4, 46)]


def test_the_report_shows_the_words(atlas):
    atlas("run", str(MANIFEST))

    page = (atlas.runs()[0] / "report.html").read_text("utf-8")

    assert "<td>4</td><td>2.75</td>" in page


def test_a_text_without_words_stops_the_run_with_the_reason(atlas):
    outcome = atlas("run", str(MANIFEST), "--set", "steps.lengths.params.at_least=40")

    assert outcome.code == 5
    assert "needs 2" in outcome.err
