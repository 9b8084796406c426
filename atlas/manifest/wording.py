"""The wording of JSON Schema errors: what is wrong, in the reader's terms, and what to write instead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from atlas.manifest.scalars import plain_number

__all__ = ["choices", "dotted", "show", "unexpected_type", "violated"]

_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping of keys",
    "array": "a list",
    "null": "nothing",
}


def show(value: Any) -> str:
    """Return a short rendering of a value, with hidden characters escaped."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=not value.isprintable())
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {show(item)}" for key, item in list(value.items())[:4]) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(show(item) for item in value[:4]) + "]"
    elif value is None:
        text = "nothing"
    else:
        text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def dotted(path: Iterable[str | int]) -> str:
    """Return a path as people write it, `steps[0].params.top_k`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def choices(given: Any, names: Iterable[str], *, noun: str = "choose one of") -> str:
    """Return what to write instead of an unknown name: the close ones, or all of them."""
    known = sorted(names)
    close = get_close_matches(str(given), known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not known:
        return "there is none"
    if len(known) == 1:
        return f"the only one is {known[0]}"
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f"{noun}: {shown}"


def unexpected_type(
    value: Any, expected: str | Iterable[str], raw: str | None, example: Any
) -> tuple[str, str]:
    """Return what and fix for a value of the wrong type.

    Args:
        value: The value.
        expected: JSON Schema's name of the type, or several.
        raw: How the file writes the value, if it is no text and not quoted.
        example: A valid value from the schema, or None.
    """
    kinds = [expected] if isinstance(expected, str) else list(expected)
    wanted = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
    if value is None and not raw:
        return f"the value is empty, expected {wanted}", _example(example)
    if "string" in kinds and raw is not None:
        meaning = "" if raw == json.dumps(value) else f", which YAML reads as {show(value)}"
        return f"expected a text, got {raw}{meaning}", f'write "{raw}" in quotes'
    if isinstance(value, str) and {"number", "integer"} & set(kinds):
        number = plain_number(value)
        if number is not None and "number" not in kinds:
            whole = float(number)
            number = str(int(whole)) if whole.is_integer() and abs(whole) < 2**63 else None
        if number is not None:
            return f"expected {wanted}, got the text {show(value)}", f"write {number}"
    if isinstance(value, float) and "integer" in kinds:
        fix = (
            f"write {int(value)}"
            if value.is_integer() and abs(value) < 2**63
            else "write one without a fraction"
        )
        return f"expected {wanted}, got {show(value)}", fix
    got = f"the text {show(value)}" if isinstance(value, str) else show(value)
    if kinds == ["boolean"]:
        return f"expected true or false, got {got}", "write true or false"
    if kinds == ["array"] and not isinstance(value, dict):
        return f"expected a list, got {got}", f"write [{raw or show(value)}]"
    return f"expected {wanted}, got {got}", _example(example) or f"write {wanted}"


def _example(example: Any) -> str:
    if example is None:
        return ""
    return f"write for example {_flow(example)}"


def _flow(value: Any) -> str:
    """Render an example in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and (not value or plain_number(value) is not None):
        return f'"{value}"'
    return value if isinstance(value, str) else json.dumps(value)


def missing(name: str, schema: Mapping[str, Any]) -> tuple[str, str]:
    """Return what and fix for a required key that is not there."""
    entry = schema.get("properties", {}).get(name, {})
    example = next(iter(entry.get("examples", ())), None)
    what = f"the key `{name}` is missing"
    if isinstance(entry.get("description"), str):
        what += f" ({entry['description'].partition('. ')[0].rstrip('.')})"
    return what, f"add `{name}: {'...' if example is None else _flow(example)}`"


def violated(
    keyword: str, limit: Any, value: Any, schema: Mapping[str, Any], message: str
) -> tuple[str, str]:
    """Return what and fix for any other keyword of JSON Schema that a value violates.

    A value that its schema calls `writeOnly` is not shown: it may be a key put in the wrong place.
    """
    shown = "the value (not shown)" if schema.get("writeOnly") else show(value)
    if keyword == "const":
        expected = schema.get("x-atlas-expects", _flow(limit))
        return f"expected {show(limit)}, got {shown}", f"write {expected}"
    if keyword == "enum":
        return f"{shown} is not among the choices", choices(value, map(_flow, limit))
    bounds = {
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMinimum": "more than",
        "exclusiveMaximum": "less than",
        "multipleOf": "a multiple of",
    }
    if keyword in bounds:
        return f"{shown} is out of range", f"write a number that is {bounds[keyword]} {show(limit)}"
    counts = {
        "minItems": ("the list is too short", f"give at least {limit}"),
        "maxItems": ("the list is too long", f"give at most {limit}"),
        "minProperties": ("the mapping is empty or too small", f"give at least {limit} key"),
        "maxProperties": ("the mapping is too large", f"give at most {limit} keys"),
        "minLength": ("the text is too short", f"write at least {limit} characters"),
        "maxLength": ("the text is too long", f"write at most {limit} characters"),
        "uniqueItems": ("the list holds a value twice", "remove one of them"),
    }
    if keyword in counts:
        what, fix = counts[keyword]
        example = next(iter(schema.get("examples", ())), None)
        return what, fix + (f", for example {_flow(example)}" if example is not None else "")
    if keyword == "pattern":
        expected = schema.get("x-atlas-expects", f"a text that matches {limit}")
        example = next(iter(schema.get("examples", ())), None)
        return f"{shown} cannot stand here", f"write {expected}" + (
            f", for example {_flow(example)}" if example is not None else ""
        )
    text = message if len(message) <= 200 else f"{message[:197]}..."
    return text, str(schema.get("description", "see the parameters' schema in the plugin's card"))
