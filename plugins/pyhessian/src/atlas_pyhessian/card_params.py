"""The instrument's parameters for calls from Python: what the card admits, and its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from atlas.catalog import CARD, parse_card
from atlas.errors import BadInput

__all__ = ["card_params"]


@cache
def _schema() -> Mapping[str, Any]:
    data = Path(__file__).with_name(CARD).read_bytes()
    card = parse_card(
        data, plugin="pyhessian", module="atlas_pyhessian.plugin", distribution="atlas-pyhessian", version=""
    )
    return next(offer.params for offer in card.offers if offer.kind == "instruments")


def _filled(schema: Mapping[str, Any], value: Any) -> Any:
    """Return a copy of a valid value with defaults put in, through the alternatives that it fits."""
    for branch in schema.get("anyOf", ()):
        if Draft202012Validator(branch).is_valid(value):
            value = _filled(branch, value)
    if not isinstance(value, Mapping):
        return deepcopy(value)
    properties = schema.get("properties", {})
    named = {name: part["default"] for name, part in properties.items() if "default" in part} | dict(value)
    return {name: _filled(properties.get(name, {}), part) for name, part in named.items()}


def card_params(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with the card's defaults, as a step of a manifest would have them.

    Raises:
        BadInput: A name is unknown or a value is not admitted; the message names the closest.
    """
    schema = _schema()
    for name in given:
        if name not in schema["properties"]:
            close = get_close_matches(name, schema["properties"], n=1)
            raise BadInput(
                f"there is no parameter {name!r}",
                fix=f"did you mean {close[0]!r}?"
                if close
                else f"choose of {', '.join(schema['properties'])}",
            )
    for error in Draft202012Validator(schema).iter_errors(dict(given)):
        place = ".".join(str(part) for part in error.absolute_path)
        described = schema["properties"][str(error.absolute_path[0])].get("description", "")
        raise BadInput(f"{place}: {error.message}", fix=described or None)
    filled: dict[str, Any] = _filled(schema, given)
    return filled
