"""Values that replace those of a manifest: `--set PATH=VALUE` and the cells of a matrix.

A path is dotted, and goes through steps and hypotheses by id, through other lists by index:
`steps.curvature.params.top_k`, `declare.h1.alpha`, `targets.lm.revision`, `stimulus.texts.0`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from attrs import frozen

from atlas.errors import BadInput
from atlas.manifest.document import Document, KeyPath, parse_value, with_value
from atlas.manifest.mistakes import Mistake, Place
from atlas.manifest.structure import manifest_schema
from atlas.manifest.wording import choices, show

__all__ = ["Override", "apply", "parse"]

_BY_ID = ("steps", "declare")


@frozen
class Override:
    """One value to put into a manifest.

    Attributes:
        path: Dotted path.
        value: The value as a document of its own, with its places.
        place: Where the override was written.
    """

    path: str
    value: Document
    place: Place


def parse(argument: str) -> Override:
    """Read a `--set` argument, `PATH=VALUE`, the value by the rules of a manifest.

    Raises:
        BadInput: There is no `=`, no path or no value, or the value is not strict YAML.
    """
    path, equals, text = argument.partition("=")
    path = path.strip()
    where = f"--set {argument if len(argument) <= 80 else argument[:77] + '...'}"
    if not equals or not path or not text.strip():
        raise BadInput(
            "a path, `=` and a value are needed",
            where=where,
            fix="write for example --set steps.curvature.params.top_k=3 (null for no value)",
        )
    value = parse_value(text, where, tuple(path.split(".")))
    if value.mistakes:
        raise BadInput("\n".join(str(mistake) for mistake in value.mistakes))
    place = Place.on_command_line(argument)
    return Override(path, _placed(value, place), place)


def _placed(value: Document, place: Place) -> Document:
    """Return a document all of whose values stand at one place."""
    return Document(
        value.name,
        value.source,
        value.data,
        dict.fromkeys(value.places, place),
        dict.fromkeys(value.key_places, place),
        value.raw,
    )


def apply(document: Document, overrides: Sequence[Override]) -> tuple[Document, list[Mistake]]:
    """Return the document with the values put in, and what is wrong with their paths."""
    mistakes = []
    for override in overrides:
        found = locate(document, override)
        if isinstance(found, Mistake):
            mistakes.append(found)
        else:
            document = with_value(document, found, override.value)
    return document, mistakes


def locate(document: Document, override: Override) -> KeyPath | Mistake:
    """Return the path of keys and indices that an override names, or why there is none.

    A key that the manifest leaves out may be set; whether it exists at all, the checks of the whole
    manifest say. Steps, hypotheses and targets must be there already.
    """
    parts = override.path.split(".")

    def unknown(part: str, kind: str, names: Sequence[str]) -> Mistake:
        return Mistake(override.place, f"there is no {kind} `{part}` to set", choices(part, names))

    settable = [name for name in manifest_schema()["properties"] if name != "matrix"]
    if parts[0] not in settable:
        meant = _parameter(document.data, parts)
        if meant is None:
            return unknown(parts[0], "key", settable)
        return Mistake(override.place, f"there is no key `{parts[0]}` to set", f"did you mean {meant}?")
    if "" in parts:
        return Mistake(override.place, f"`{override.path}` is no path", "write keys joined by single dots")
    path: KeyPath = ()
    here: Any = document.data
    for depth, part in enumerate(parts):
        around = ".".join(parts[:depth])
        if isinstance(here, list):
            if depth == 1 and parts[0] in _BY_ID:
                ids = [item.get("id") if isinstance(item, dict) else None for item in here]
                if part not in ids:
                    names = [name for name in ids if isinstance(name, str)]
                    return unknown(part, "step" if parts[0] == "steps" else "hypothesis", names)
                index = ids.index(part)
            elif part.isascii() and part.isdigit() and int(part) < len(here):
                index = int(part)
            else:
                return Mistake(
                    override.place,
                    f"`{around}` is a list of {len(here)}; it has no `{part}`",
                    f"count from 0 to {len(here) - 1}" if here else f"set `{around}` as a whole",
                )
            path, here = (*path, index), here[index]
        elif isinstance(here, dict) or here is None:
            mapping: dict[str, Any] = here or {}
            if depth == 1 and parts[0] == "targets" and part not in mapping:
                return unknown(part, "target", [name for name in mapping if isinstance(name, str)])
            if depth == 1 and parts[0] in _BY_ID:
                return unknown(part, "step" if parts[0] == "steps" else "hypothesis", [])
            if depth == 2 and parts[0] == "steps" and not get_close_matches(part, _step_keys()):
                return Mistake(
                    override.place,
                    f"a step has no key `{part}`",
                    f"its parameters are set by {'.'.join((*parts[:2], 'params', *parts[2:]))}",
                )
            path, here = (*path, part), mapping.get(part)
        else:
            return Mistake(
                override.place,
                f"`{around}` is {show(here)}, it has no `{part}`",
                f"set `{around}` as a whole",
            )
    return path


def _step_keys() -> Sequence[str]:
    return list(manifest_schema()["properties"]["steps"]["items"]["properties"])


def _parameter(manifest: Any, parts: Sequence[str]) -> str | None:
    """Return the path of a step's parameter that was written without what leads there, or None."""
    steps = manifest.get("steps") if isinstance(manifest, dict) else None
    named = {
        step["id"]: step.get("params") or {}
        for step in (steps if isinstance(steps, list) else ())
        if isinstance(step, dict) and isinstance(step.get("id"), str)
    }
    if parts[0] in named:
        rest = parts[2:] if parts[1:2] == ["params"] else parts[1:]
        return ".".join(("steps", parts[0], "params", *rest)) if rest else None
    given = [step for step, params in named.items() if isinstance(params, dict) and parts[0] in params]
    return ".".join(("steps", given[0], "params", *parts)) if len(given) == 1 else None
