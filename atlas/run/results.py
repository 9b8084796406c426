"""What a step left in its `out` folder, checked by the host before anything of it is sealed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas.errors import AtlasError, InstrumentFailed
from atlas.quantities import Quantity
from atlas.run.messages import OutputFile
from atlas.run.paths import place
from atlas.run.store import Deposit
from atlas.tables import QUANTITIES, TableSchema, read_csv

__all__ = ["check_files", "deposits"]


def check_files(files: tuple[OutputFile, ...], out: Path, *, who: str) -> None:
    """Check that the files are there, are what was announced, and that tables obey their schemas.

    Raises:
        InstrumentFailed: One is missing, differs from its digest or breaks its schema.
    """
    announced = {file.name: file for file in files}
    content = {name: _read(out, file, who) for name, file in announced.items()}
    for name, data in content.items():
        role = announced[name].role
        try:
            if role == "table":
                schema_name = name.removesuffix(".csv") + ".schema.json"
                _check_table(name, data, json.loads(content[schema_name]))
            elif role == "facts":
                _check_facts(json.loads(data))
        except (AtlasError, KeyError, TypeError, ValueError) as error:
            raise InstrumentFailed(f"the step's {name} is not valid: {error}", who=who) from error


def deposits(files: tuple[OutputFile, ...], out: Path, folder: str) -> list[Deposit]:
    """Return the files as deposits for `Store.seal_together`, under `folder` of the run."""
    return [Deposit(f"{folder}/{file.name}", out / file.name, file.role, file.sha256) for file in files]


def _read(out: Path, file: OutputFile, who: str) -> bytes:
    try:
        data = place(out, file.name).read_bytes()
    except (OSError, AtlasError) as error:
        raise InstrumentFailed(f"the step's {file.name} cannot be read: {error}", who=who) from error
    if (len(data), hashlib.sha256(data).hexdigest()) != (file.size, file.sha256):
        raise InstrumentFailed(f"the step's {file.name} changed after it was written", who=who)
    return data


def _check_table(name: str, data: bytes, descriptor: Mapping[str, Any]) -> None:
    rows = read_csv(TableSchema.from_descriptor(descriptor), data, where=name)
    if name == f"{QUANTITIES.name}.csv":
        if descriptor != QUANTITIES.descriptor():
            raise ValueError("its schema is not that of quantities")
        for row in rows:
            Quantity(**{**row, "note": row["note"] or ""})  # type: ignore[arg-type]


def _check_facts(facts: Any) -> None:
    if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
        raise ValueError("facts are an object of texts")
