import hashlib
import json
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml
from atlas_ecm.claims import VERSIONS, BsaStimuli, load
from platformdirs import user_cache_path

from atlas.errors import BadInput

RELEASE = load("0.2")

# Terms of the vocabulary that a contamination check looks for, and their neighbours.
VOCABULARY = set(
    """
    atlas basin basins canary centerward charge charged coupled coupling curvature curved discharge discharged
    dissonance dissonant drift eigenvalue eigenvalues flat flatness framework gradient gradients harmonic
    harmonics hessian landscape landscapes lossyscape navigator perplexity plateau plateaus potential
    resistance resistant resonance resonant sharp sharpness slack spectrum stiffness synthesis taut technician
    tension tensions terrain valley valleys viscosity viscous weights
""".split()  # noqa: SIM905 - sixty words read better as text
)


def file_bytes():
    return (files("atlas_ecm") / "data" / "bsa-0.2.yaml").read_bytes()


def test_the_file_is_valid_by_its_schema():
    schema = json.loads((files("atlas_ecm") / "data" / "bsa.schema.json").read_text("utf-8"))

    faults = list(jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(file_bytes())))

    assert faults == []


def test_a_release_is_named_by_its_version_and_the_digest_of_its_file():
    assert (RELEASE.version, RELEASE.sha256) == ("0.2", hashlib.sha256(file_bytes()).hexdigest())


def test_a_published_release_is_never_edited():
    # After publication a change here is a new version, never a new digest.
    assert RELEASE.sha256 == "c802c5faaf643801a4fe0906961911f5f404f7eb930bd249d2d91fbcbb312358"


def test_tiers_have_nine_twelve_and_nine_pairs_in_equal_parts_of_each_domain():
    pairs = [first for first, _ in RELEASE.pairs.values()]

    assert Counter((pair.domain, pair.tier) for pair in pairs) == {
        (domain, tier): count
        for domain in ("medical", "legal", "scientific")
        for tier, count in (("ground_truth", 3), ("contested", 4), ("foil", 3))
    }


def test_each_tier_has_its_own_truths():
    truths = Counter(
        (first.tier, *sorted((first.truth, second.truth))) for first, second in RELEASE.pairs.values()
    )

    assert truths == {
        ("ground_truth", "false", "true"): 9,
        ("contested", "disputed", "disputed"): 12,
        ("foil", "fabricated", "true"): 9,
    }


def test_ids_tell_the_pair_and_the_side():
    assert [(c.id, c.pair, c.side) for c in RELEASE.claims] == [
        (f"bsa-{number:03}{side}", f"bsa-{number:03}", side) for number in range(1, 31) for side in "ab"
    ]


def test_a_fabricated_member_is_marked_and_its_partner_is_not():
    marked = {
        member["id"]
        for pair in yaml.safe_load(file_bytes())["pairs"]
        for member in pair["claims"]
        if member.get("fabricated") is True
    }

    assert marked == {claim.id for claim in RELEASE.claims if claim.truth == "fabricated"}
    assert all(claim.invented and claim.imitates for claim in RELEASE.claims if claim.fabricated)


def test_every_claim_but_the_fabricated_names_its_sources():
    assert [c.id for c in RELEASE.claims if bool(c.sources) == c.fabricated] == []


def test_a_source_says_who_what_when_and_where_and_needs_no_link():
    # A title and a place can be looked up in any library in a hundred years; a link can be neither.
    faulty = [
        (claim.id, source)
        for claim in RELEASE.claims
        for source in claim.sources
        if not (source.author and source.title and source.where and 1700 < source.year <= 2026)
        or re.search(r"https?:|www\.|doi", f"{source.title} {source.where}", flags=re.IGNORECASE)
    ]

    assert faulty == []


def test_the_sides_of_a_contested_pair_rest_on_different_sources():
    shared = [
        first.pair
        for first, second in RELEASE.pairs.values()
        if first.tier == "contested" and set(first.sources) & set(second.sources)
    ]

    assert shared == []


def test_a_side_does_not_give_the_answer_away():
    sides = Counter(
        (claim.tier, claim.side) for claim in RELEASE.claims if claim.truth in ("false", "fabricated")
    )

    assert max(sides.values()) - min(sides.values()) <= 1


def test_texts_are_distinct_single_paragraphs():
    texts = [claim.text for claim in RELEASE.claims]

    assert len(set(texts)) == 60
    assert [text for text in texts if text != " ".join(text.split()) or not text.endswith(".")] == []


def test_no_text_can_start_a_formula_in_a_spreadsheet():
    assert [c.id for c in RELEASE.claims if RELEASE.prompt(c)[0] in "=+-@\t\r"] == []


def test_a_text_has_at_least_32_tokens_because_it_has_more_words_than_that():
    # A byte-level tokenizer splits at spaces, so it yields at least one token a word.
    assert min(len(claim.text.split()) for claim in RELEASE.claims) >= 32


def test_a_text_has_at_least_32_tokens_of_a_real_tokenizer():
    folder = Path(user_cache_path("atlas")) / "models" / "smollm2-135m"
    if not (folder / "tokenizer.json").exists():
        pytest.skip("smollm2-135m is not in the user's cache; `atlas models pull smollm2-135m` brings it")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    assert [c.id for c in RELEASE.claims if len(tokenizer.encode(c.text).ids) < 32] == []


def test_the_members_of_a_pair_differ_within_their_first_24_words():
    alike = [
        first.pair
        for first, second in RELEASE.pairs.values()
        if first.text.split()[:24] == second.text.split()[:24]
    ]

    assert alike == []


def test_the_members_of_a_pair_are_alike_in_length():
    ratios = [len(first.text.split()) / len(second.text.split()) for first, second in RELEASE.pairs.values()]

    assert 0.8 <= min(ratios) <= max(ratios) <= 1.25


def test_no_text_holds_a_word_of_the_vocabulary():
    found = {
        (claim.id, word)
        for claim in RELEASE.claims
        for word in re.findall(r"\w+", RELEASE.prompt(claim).lower())
        if word in VOCABULARY
    }

    assert found == set()


def test_a_stimulus_item_is_a_claim_with_the_attributes_to_select_it_by():
    item = next(iter(BsaStimuli().items({"version": "0.2"}, Path())))

    assert (item.id, dict(item.attributes)) == (
        "bsa-001a",
        {
            "pair": "bsa-001",
            "side": "a",
            "domain": "medical",
            "tier": "ground_truth",
            "truth": "true",
            "fabricated": "false",
        },
    )


def test_items_can_be_selected_by_being_fabricated():
    items = BsaStimuli().items({"version": "0.2"}, Path())

    assert {item.id for item in items if item.attributes["fabricated"] == "true"} == {
        claim.id for claim in RELEASE.claims if claim.fabricated
    }


def test_the_card_offers_exactly_the_versions_that_there_are():
    card = yaml.safe_load((files("atlas_ecm") / "atlas-plugin.yaml").read_bytes())

    version = card["provides"]["stimuli"]["bsa"]["params"]["properties"]["version"]
    assert (tuple(version["enum"]), version["default"]) == (VERSIONS, VERSIONS[-1])


def test_an_unknown_version_is_refused_with_those_that_there_are():
    with pytest.raises(BadInput, match="'0\\.3'") as caught:
        load("0.3")

    assert "0.2" in str(caught.value.fix)
