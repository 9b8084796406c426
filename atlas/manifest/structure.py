"""Checking values against a JSON Schema, all errors at once, and filling in its defaults.

Schemas are draft 2020-12; references must stay within the schema (nothing is fetched). An integer is
written as one: 3.0 is refused where a whole number is expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.manifest.mistakes import Mistake
from atlas.manifest.tree import Document, KeyPath
from atlas.manifest.wording import choices, dotted, missing, unexpected_type, violated

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

__all__ = ["annotated", "check", "fill", "manifest_schema", "schema_fault"]


@lru_cache(maxsize=1)
def manifest_schema() -> Mapping[str, Any]:
    """Return the published JSON Schema of manifests."""
    text = Path(__file__).with_name("manifest.schema.json").read_text("utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


@lru_cache(maxsize=1)
def _strict() -> Any:
    """Return the validator's class; imported late, as it takes 0.3 s and listing plugins needs none."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    return extend(  # type: ignore[no-untyped-call]
        Draft202012Validator,
        type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
            "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
        ),
    )


def _validator(schema: Any) -> Any:
    from referencing import Registry

    return _strict()(schema, registry=Registry())


def schema_fault(schema: Any) -> str | None:
    """Return why a card's schema cannot be used, or None."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"at {dotted(error.absolute_path) or 'its root'}: {error.message}"
    if not isinstance(schema, Mapping):
        return "it is not an object schema"
    for reference in _references(schema):
        try:
            _resolved({"$ref": reference}, schema)
        except (KeyError, TypeError):
            return f"the reference {reference!r} does not lead anywhere within the schema"
    return None


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for item in schema.values():
            yield from _references(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def check(
    document: Document,
    path: KeyPath,
    value: Any,
    schema: Mapping[str, Any],
    *,
    subject: str = "",
    also_known: tuple[str, ...] = (),
) -> list[Mistake]:
    """Return everything in which a value breaks a schema, with places.

    Args:
        document: Where the value stands, for places.
        path: Its path there.
        value: The value.
        schema: A sound schema.
        subject: Whose schema it is, ` of the instrument 'pyhessian'`, for unknown keys.
        also_known: Keys beside the schema's own that may stand at `path`, for suggestions.
    """
    mistakes: list[Mistake] = []
    for error in _validator(schema).iter_errors(value):
        for leaf in _leaves(error):
            at: KeyPath = (*path, *leaf.absolute_path)
            if not document.is_flawed(at):
                mistakes += _mistakes(document, at, leaf, subject, also_known if at == path else ())
    return list(dict.fromkeys(mistakes))


def _mistakes(
    document: Document, at: KeyPath, error: ValidationError, subject: str, also_known: tuple[str, ...]
) -> Iterator[Mistake]:
    schema: Any = error.schema
    value: Any = error.instance
    keyword: Any = error.validator
    limit: Any = error.validator_value
    if keyword == "additionalProperties":
        properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for key in value:
            known = key in properties or any(re.search(pattern, key) for pattern in patterns)
            if not known and not document.is_flawed((*at, key)):
                yield Mistake(
                    document.place((*at, key), key=True),
                    f"unknown key `{key}`{subject}",
                    choices(key, [*properties, *also_known], noun="known keys"),
                )
    elif keyword == "required":
        for name in limit:
            if name not in value:
                yield Mistake(document.place(at), *missing(name, schema))
    elif keyword == "dependentRequired":
        for name, partners in limit.items():
            for partner in partners:
                if name in value and partner not in value:
                    what, fix = missing(partner, schema)
                    yield Mistake(document.place((*at, name), key=True), f"{what}; `{name}` needs it", fix)
    elif keyword == "type":
        raw = document.raw.get(at)
        example = next(iter(schema.get("examples", ())), None)
        yield Mistake(document.place(at), *unexpected_type(value, limit, raw, example))
    elif "propertyNames" in error.absolute_schema_path:
        place = document.place((*at, value), key=True)
        yield Mistake(place, *violated(keyword, limit, value, schema, error.message))
    elif keyword in ("anyOf", "oneOf"):
        yield Mistake(document.place(at), *_alternatives(error))
    else:
        place = document.place(at)
        place = place.without_value() if schema.get("writeOnly") else place
        yield Mistake(place, *violated(keyword, limit, value, schema, error.message))


def _alternatives(error: ValidationError) -> tuple[str, str]:
    """Word an `anyOf` or `oneOf` of which no branch, or more than one, fits."""
    alternatives: Any = error.validator_value
    branches = [branch for branch in alternatives if isinstance(branch, Mapping)]
    unknown = _unknown_constant(branches, error.instance)
    if unknown is not None:
        return unknown
    keys = list(dict.fromkeys(" and ".join(f"`{key}`" for key in b.get("required", ())) for b in branches))
    if all(keys):
        if error.context:
            return f"one of {', '.join(keys)} is needed", f"add {keys[0]}"
        return f"only one of {', '.join(keys)} may be given", "remove the others"
    wanted = [json.dumps(branch["const"]) for branch in branches if "const" in branch]
    wanted += [json.dumps(value) for branch in branches for value in branch.get("enum", ())]
    wanted += [
        str(branch.get("title") or branch.get("description") or branch["type"])
        for branch in branches
        if "type" in branch and "const" not in branch and "enum" not in branch
    ]
    text = error.message if len(error.message) <= 120 else f"{error.message[:117]}..."
    return text, f"write one of: {', '.join(wanted)}" if wanted else "see the parameters' schema"


def _unknown_constant(branches: list[Mapping[str, Any]], value: Any) -> tuple[str, str] | None:
    """Word a value of the key that tells the branches apart, such as `use`, which none of them has."""
    if not branches or not isinstance(value, Mapping):
        return None
    for key in set.intersection(*({*branch.get("required", ())} for branch in branches)) & {*value}:
        entries = [branch.get("properties", {}).get(key, {}) for branch in branches]
        known = [k for e in entries for k in e.get("enum", [e["const"]] if "const" in e else [])]
        if known and value[key] not in known:
            close = get_close_matches(str(value[key]), map(str, known), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            return f"`{key}: {value[key]}` is unknown{hint}", f"write one of: {', '.join(map(str, known))}"
    return None


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """Yield the errors that say most: those inside the branch of `anyOf` that was meant.

    The branch that was meant is the only one whose required constants, such as `use: npz`, the value has; or
    else the only one whose own type and constants fit it.
    """
    if error.validator not in ("anyOf", "oneOf") or not error.context:
        yield error
        return
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    alternatives: Any = error.validator_value
    meant = [inners for at, inners in branches.items() if _is_named(alternatives[at], error.instance, inners)]
    if len(meant) != 1:
        meant = [
            inners
            for inners in branches.values()
            if not any(not i.path and i.validator in ("type", "const", "enum", "required") for i in inners)
        ]
    if len(meant) == 1:
        for inner in meant[0]:
            yield from _leaves(inner)
    else:
        yield error


def _is_named(branch: Any, value: Any, errors: list[ValidationError]) -> bool:
    """Return whether a value has all the constants that a branch requires, of which there is one at least."""
    if not isinstance(branch, Mapping) or not isinstance(value, Mapping):
        return False
    entries = branch.get("properties", {})
    names = [key for key in branch.get("required", ()) if {"const", "enum"} & {*entries.get(key, {})}]
    wrong = {error.path[0] for error in errors if error.path}
    return bool(names) and all(name in value and name not in wrong for name in names)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema with its local `$ref` merged in."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    if not reference.startswith("#"):
        raise KeyError(reference)
    found: Any = root
    for part in reference[1:].strip("/").split("/") if reference != "#" else ():
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return {**found, **{key: item for key, item in schema.items() if key != "$ref"}}


def _applicable(
    schema: Mapping[str, Any], value: Any, root: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas that speak about a value: itself, `allOf`, the branches that were taken."""
    schema = _resolved(schema, root)
    yield schema
    for part in schema.get("allOf", ()):
        yield from _applicable(part, value, root)

    def fits(branch: Any) -> bool:
        return bool(_validator(root).evolve(schema=branch).is_valid(value))

    for keyword in ("anyOf", "oneOf"):
        taken = next((b for b in schema.get(keyword, ()) if isinstance(b, Mapping) and fits(b)), None)
        if taken is not None:
            yield from _applicable(taken, value, root)
    if "if" in schema:
        branch = schema.get("then" if fits(schema["if"]) else "else")
        if isinstance(branch, Mapping):
            yield from _applicable(branch, value, root)


def fill(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any] | None = None) -> Any:
    """Return a copy of a valid value with the schema's defaults filled in, given keys first."""
    root = schema if root is None else root
    for part in _applicable(schema, value, root):
        if isinstance(value, dict):
            filled = dict(value)
            properties = part.get("properties", {})
            for name, entry in properties.items():
                described = _resolved(entry, root) if isinstance(entry, Mapping) else {}
                if name not in filled and "default" in described:
                    filled[name] = deepcopy(described["default"])
            others = part.get("additionalProperties")
            for name in filled:
                entry = properties.get(name, others)
                if isinstance(entry, Mapping):
                    filled[name] = fill(entry, filled[name], root)
            value = filled
        elif isinstance(value, list) and isinstance(part.get("items"), Mapping):
            value = [fill(part["items"], item, root) for item in value]
    return value


def annotated(
    schema: Mapping[str, Any],
    value: Any,
    keyword: str,
    path: KeyPath = (),
    root: Mapping[str, Any] | None = None,
) -> Iterator[tuple[KeyPath, Any, Any]]:
    """Yield (path, value, annotation) wherever the schema annotates part of a valid value.

    An annotation under `propertyNames` speaks of each key; its path ends in that key, and the value is
    the key itself.
    """
    root = schema if root is None else root
    for part in _applicable(schema, value, root):
        if keyword in part:
            yield path, value, part[keyword]
        if isinstance(value, dict):
            names = part.get("propertyNames")
            if isinstance(names, Mapping) and keyword in names:
                for name in value:
                    yield (*path, name), name, names[keyword]
            properties, others = part.get("properties", {}), part.get("additionalProperties")
            for name, item in value.items():
                entry = properties.get(name, others)
                if isinstance(entry, Mapping):
                    yield from annotated(entry, item, keyword, (*path, name), root)
        elif isinstance(value, list) and isinstance(part.get("items"), Mapping):
            for index, item in enumerate(value):
                yield from annotated(part["items"], item, keyword, (*path, index), root)
