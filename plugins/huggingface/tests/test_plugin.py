from __future__ import annotations

import subprocess
import sys

import atlas_huggingface
import jsonschema
import pytest
from atlas_huggingface import plugin
from atlas_huggingface.pull_list import PULL_LIST

from atlas.catalog import CARD, parse_card


@pytest.fixture(scope="module")
def card():
    from pathlib import Path

    data = (Path(atlas_huggingface.__file__).parent / CARD).read_bytes()
    return parse_card(data, plugin="huggingface", module="", distribution="", version="")


def offered(card, kind):
    return {offer.name: offer for offer in card.offers if offer.kind == kind}


def test_the_card_and_the_hooks_offer_the_same(card):
    assert card.fault is None
    for kind in ("targets", "loss_terms", "stimuli"):
        assert set(offered(card, kind)) == set(getattr(plugin, f"atlas_{kind}")())


@pytest.mark.parametrize("module", ["plugin", "commands"])
def test_importing_the_plugin_imports_neither_torch_nor_transformers(module):
    heavy = "{'torch', 'transformers'} & set(sys.modules)"
    code = f"import sys, atlas_huggingface.{module}; print(sorted({heavy}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_examples_of_the_card_are_valid_by_it(card):
    host_keys = {"use", "where", "each", "limit", "max_tokens"}
    examples = 0
    for kind in ("targets", "stimuli"):
        for offer in offered(card, kind).values():
            for example in offer.details["examples"]:
                params = {key: value for key, value in example.items() if key not in host_keys}
                jsonschema.validate(params, offer.params, jsonschema.Draft202012Validator)
                examples += 1
    assert examples == 7


@pytest.mark.parametrize(
    "params", [{}, {"path": "a", "id": "b/c", "revision": "d"}, {"id": "b/c"}, {"path": "a", "revision": "d"}]
)
def test_a_target_names_one_place_and_an_id_its_revision(card, params):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(params, offered(card, "targets")["hf"].params, jsonschema.Draft202012Validator)


def test_the_card_names_the_models_of_the_pull_list(card):
    assert offered(card, "targets")["hf"].params["properties"]["pulled"]["enum"] == list(PULL_LIST)
