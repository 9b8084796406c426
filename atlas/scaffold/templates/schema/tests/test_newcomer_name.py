from pathlib import Path

import pytest
from atlas_newcomer_name.plugin import SHEET

from atlas.errors import AtlasError
from atlas.tables import read_csv, to_csv
from atlas.testing import InstrumentContract

MANIFEST = Path(__file__).parents[1] / "manifest.yaml"


class TestContract(InstrumentContract):
    """What holds for every instrument; see `atlas.testing`."""

    manifest = MANIFEST
    step = "sheet"


def test_rows_come_back_as_they_were_written():
    rows = [{"item": "1", "text": 'a, "b"\nc', "clear": None, "reason": None}]

    assert list(read_csv(SHEET, to_csv(SHEET, rows), where="sheet.csv")) == rows


def test_a_row_without_its_item_is_refused():
    with pytest.raises(AtlasError, match="item"):
        to_csv(SHEET, [{"text": "A cat sat on a mat."}])


def test_nobody_but_a_person_fills_the_sheet_in(atlas):
    outcome = atlas("run", str(MANIFEST))
    assert outcome.code == 0, outcome.err

    rows = atlas.view(atlas.runs()[0].name).tables("sheet")["newcomer-name"]

    assert [(row["clear"], row["reason"]) for row in rows] == [(None, None), (None, None)]
