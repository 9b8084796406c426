"""The vocabulary's data against what is made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from atlas_lossyscape.vocabulary import find_term, page, spelled, vocabulary

from atlas.errors import BadInput

ROOT = Path(__file__).parents[3]


def test_the_documentation_page_is_made_from_the_data():
    assert (ROOT / "docs" / "vocabulary.md").read_text("utf-8") == page()


def test_the_link_sheet_of_cisp_has_the_vocabularys_proxies():
    sheet = yaml.safe_load((ROOT / "plugins/cisp/src/atlas_cisp/link-sheet.yaml").read_text("utf-8"))

    observed = [(s["id"], s["term"], s["quantities"]) for s in sheet["signals"]]

    assert observed == [(p.id, p.name, [p.quantity]) for p in vocabulary().proxies]


def test_every_proxy_stands_for_a_term():
    assert {p.term for p in vocabulary().proxies} <= {t.id for t in vocabulary().terms}


def test_a_term_is_found_by_its_state_and_told_in_plain_words_first():
    term = find_term("Slack")

    assert term.id == "tension"
    assert spelled(term).index(term.plain) < spelled(term).index(term.mathematics)


def test_an_unknown_term_is_answered_with_close_ones():
    with pytest.raises(BadInput) as error:
        find_term("viscous")

    assert "viscosity" in str(error.value.fix)
