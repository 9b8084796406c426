"""The user's cache of converted models: where it lies, and whether a model in it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
from attrs import frozen

from atlas.errors import BadInput

__all__ = ["RECEIPT", "Receipt", "cache_folder", "file_sha256", "model_folder", "read_receipt"]

RECEIPT = "atlas-model.json"
"""File in a converted model's folder that says where it came from and what it must hold."""


def cache_folder() -> Path:
    """Return the cache's folder: `ATLAS_CACHE`, or the platform's folder for user caches."""
    chosen = os.environ.get("ATLAS_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("atlas", appauthor=False)


def model_folder(name: str) -> Path:
    """Return the folder in which a model of the pull list lies once it was pulled."""
    return cache_folder() / "models" / name


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@frozen
class Receipt:
    """Where a converted model came from, written beside it.

    Attributes:
        name: Name on the pull list.
        source: Where the original was taken from.
        licence: SPDX identifier.
        original: File name and sha256 of the original, `NAME sha256:...`.
        dequantised_from: Quantisation of the original weights, `GGUF Q4_1`.
        files: sha256 by file name of everything that the folder must hold.
    """

    name: str
    source: str
    licence: str
    original: str
    dequantised_from: str
    files: Mapping[str, str]

    def as_json(self) -> str:
        """Return the receipt as the text of its file."""
        fields = ("name", "source", "licence", "original", "dequantised_from")
        content: dict[str, Any] = {key: getattr(self, key) for key in fields}
        content["files"] = dict(sorted(self.files.items()))
        return json.dumps(content, indent=2) + "\n"

    def damage(self, folder: Path) -> str | None:
        """Return what is missing or changed in the folder, or None if it is whole."""
        for name, expected in self.files.items():
            try:
                observed = file_sha256(folder / name)
            except OSError as error:
                return f"{name} cannot be read: {error.strerror or error}"
            if observed != expected:
                return f"{name} has sha256 {observed}, expected {expected}"
        return None


def read_receipt(folder: Path) -> Receipt | None:
    """Return a folder's receipt, or None where it has none.

    Raises:
        BadInput: The receipt cannot be read.
    """
    path = folder / RECEIPT
    if not path.is_file():
        return None
    try:
        receipt = Receipt(**json.loads(path.read_text(encoding="utf-8")))
        if not all(Path(name).name == name for name in receipt.files):
            raise ValueError("it names a file outside its folder")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(
            f"the model's receipt cannot be read: {error}",
            where=str(path),
            fix=f"remove {folder} and run: atlas models pull {folder.name}",
        ) from error
    return receipt
