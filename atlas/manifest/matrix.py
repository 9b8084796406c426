"""A manifest's matrix: each combination of its values is a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from attrs import evolve

from atlas.manifest.document import Document, parse_document, read_source
from atlas.manifest.mistakes import Mistake, as_error
from atlas.manifest.overrides import Override, locate, parse
from atlas.manifest.structure import check, manifest_schema
from atlas.manifest.writing import flow

__all__ = ["expand", "placed_in_matrix"]

MAX_RUNS = 1000


def expand(path: Path, overrides: Sequence[str] = ()) -> list[tuple[str, tuple[str, ...]]]:
    """Return a label and the overrides of each run; one run without a label where there is no matrix.

    Args:
        path: The manifest's file.
        overrides: `--set` arguments, which hold for every run. What the matrix varies cannot be set.

    Returns:
        In the file's order, the last path varying fastest. The overrides of a run are `overrides` and
        one for each path of the matrix.

    Raises:
        BadInput: The matrix is malformed, a path leads nowhere, or there are more than 1,000 runs.
    """
    document = parse_document(read_source(path), str(path))
    matrix = document.data.get("matrix")
    if matrix is None:
        return [("", tuple(overrides))]
    mistakes = list(document.mistakes)
    entry = manifest_schema()["properties"]["matrix"]
    mistakes += check(document, ("matrix",), matrix, entry)
    if mistakes:
        raise as_error(mistakes)
    mistakes += _path_mistakes(document, list(matrix), [parse(item).path for item in overrides])
    runs = prod(len(values) for values in matrix.values())
    if runs > MAX_RUNS:
        place = document.place(("matrix",))
        mistakes.append(
            Mistake(place, f"the matrix makes {runs:,} runs", f"make at most {MAX_RUNS:,} at a time")
        )
    if mistakes:
        raise as_error(mistakes)
    cells = []
    for values in product(*matrix.values()):
        settings = [_setting(path, value) for path, value in zip(matrix, values, strict=True)]
        cells.append((", ".join(settings), (*overrides, *settings)))
    return cells


def _setting(path: str, value: Any) -> str:
    return f"{path}={flow(value)}"


def _path_mistakes(document: Document, paths: Sequence[str], fixed: Sequence[str]) -> list[Mistake]:
    mistakes = []
    for index, path in enumerate(paths):
        place = document.place(("matrix", path), key=True)
        found = locate(document, Override(path, document, place))
        if isinstance(found, Mistake):
            mistakes.append(found)
        if any(_overlap(path, other) for other in paths[:index]):
            mistakes.append(Mistake(place, f"`{path}` overlaps another path of the matrix", "keep one"))
        if any(_overlap(path, other) for other in fixed):
            mistakes.append(Mistake(place, f"`{path}` is set on the command line too", "drop one of the two"))
    return mistakes


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def placed_in_matrix(document: Document, override: Override) -> Override:
    """Return an override with the place of the matrix's value that it repeats, where it is one."""
    matrix = document.data.get("matrix")
    values = matrix.get(override.path) if isinstance(matrix, dict) else None
    if not isinstance(values, list) or override.value.data not in values:
        return override
    at = ("matrix", override.path, values.index(override.value.data))
    place = document.place(at)
    value = override.value
    return evolve(
        override,
        place=place,
        value=evolve(
            value,
            places={path: document.place((*at, *path)) for path in value.places},
            key_places={path: document.place((*at, *path), key=True) for path in value.key_places},
        ),
    )
