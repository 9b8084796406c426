"""A checkpoint: which files make up a model on this disk, found and refused before any is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from attrs import frozen

from atlas.errors import BadInput
from atlas_huggingface.cache import Receipt, file_sha256, read_receipt

__all__ = ["TOKENIZER_FILES", "Checkpoint", "find_checkpoint", "read_config"]

Format = Literal["safetensors", "gguf", "pickle"]

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("vocab.json", "vocab.txt", "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
"""Files that decide how text is tokenised. The last three alone make no tokenizer."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@frozen
class Checkpoint:
    """The files of a model.

    Attributes:
        folder: Holds the configuration and the tokenizer, or the GGUF file.
        format: Of the weights.
        weights: Weight files, all of which count.
        receipt: Of a model that `atlas models pull` converted.
    """

    folder: Path
    format: Format
    weights: tuple[Path, ...]
    receipt: Receipt | None = None

    def weight_digests(self) -> dict[str, str]:
        """Return sha256 by file name.

        Raises:
            BadInput: A file of the receipt has another digest than when it was converted.
        """
        digests = {path.name: file_sha256(path) for path in self.weights}
        for name, digest in digests.items():
            expected = self.receipt.files.get(name, digest) if self.receipt else digest
            if digest != expected:
                raise BadInput(
                    f"the file has sha256 {digest}, but {expected} when it was converted",
                    where=str(self.folder / name),
                    fix=f"atlas models pull {self.receipt.name if self.receipt else ''}".strip(),
                )
        return digests

    def licence(self) -> str:
        """Return the licence that the receipt or the model card states, or `unknown`."""
        if self.receipt is not None:
            return self.receipt.licence
        card = self.folder / "README.md"
        if not card.is_file():
            return "unknown"
        head, mark, rest = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
        try:
            front = yaml.safe_load(rest.partition("\n---")[0]) if mark and not head.strip() else None
        except yaml.YAMLError:
            return "unknown"  # the model card is prose; a broken one says nothing about the weights
        stated = front.get("license") if isinstance(front, dict) else None
        return stated if isinstance(stated, str) else "unknown"


def find_checkpoint(path: Path, *, allow_pickle: bool) -> Checkpoint:
    """Return the checkpoint at a folder or a weight file.

    Raises:
        BadInput: Nothing is there, it is no checkpoint, or its format is refused.
    """
    if not path.exists():
        raise BadInput("there is no such file or folder", where=str(path), fix="correct the target's `path`")
    if path.is_dir():
        found = _in_folder(path)
    elif path.suffix == ".gguf":
        found = Checkpoint(path.parent, "gguf", (path,))
    elif path.suffix == ".safetensors":
        found = Checkpoint(path.parent, "safetensors", (path,), read_receipt(path.parent))
    elif path.suffix in _PICKLES:
        found = Checkpoint(path.parent, "pickle", (path,))
    else:
        raise BadInput(
            f"{path.suffix or 'this file'} is no format of weights that Atlas reads",
            where=str(path),
            fix="name a folder, a .safetensors file or a .gguf file",
        )
    if found.format == "pickle" and not allow_pickle:
        raise BadInput(
            "pickled weights are not opened, since a pickle can hold more than weights",
            where=str(found.weights[0]),
            fix="take a safetensors version of the model, or set `allow_pickle_weights: weights_only`",
        )
    if found.format != "gguf":
        read_config(found.folder)
    return found


def _in_folder(folder: Path) -> Checkpoint:
    kinds: tuple[tuple[str, Format], ...] = (
        ("model.safetensors", "safetensors"),
        ("pytorch_model.bin", "pickle"),
    )
    for name, kind in kinds:
        if (folder / name).is_file():
            return Checkpoint(folder, kind, (folder / name,), read_receipt(folder))
        if (folder / f"{name}.index.json").is_file():
            return Checkpoint(folder, kind, _shards(folder / f"{name}.index.json"), read_receipt(folder))
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".gguf", *_PICKLES))
    raise BadInput(
        "the folder holds neither model.safetensors nor its index",
        where=str(folder),
        fix=f"name the file itself: {', '.join(others)}" if others else "choose the folder of a model",
    )


def _shards(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise BadInput("the index has no `weight_map`", where=str(index))
    shards = []
    for name in sorted({str(value) for value in names.values()}):
        if Path(name).name != name:
            raise BadInput(f"the index names {name!r}, a file outside its folder", where=str(index))
        if not (index.parent / name).is_file():
            raise BadInput(
                f"the index names {name!r}, which is missing",
                where=str(index),
                fix="bring all the parts of the model into this folder",
            )
        shards.append(index.parent / name)
    return tuple(shards)


def read_config(folder: Path) -> Mapping[str, Any]:
    """Return a model's configuration.

    Raises:
        BadInput: It is missing or broken, or asks for code of its own.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise BadInput(
            "the configuration of the model is missing",
            where=str(path),
            fix="put config.json and the tokenizer beside the weights",
        )
    config = read_json(path)
    if not isinstance(config.get("model_type"), str):
        raise BadInput("the configuration names no `model_type`", where=str(path))
    if config.get("quantization_config"):
        raise BadInput(
            "the weights are stored quantised, and a Hessian needs them as floating-point numbers",
            where=str(path),
            fix="take the unquantised model, or a GGUF file, which is dequantised",
        )
    return config


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        BadInput: The file cannot be read or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"the file is not JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise BadInput("the file is not a JSON object", where=str(path))
    return content
