"""How a person's text reaches a gate: from a file, from standard input, or from their editor."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from atlas.errors import BadInput

__all__ = ["obtain", "signed"]


def obtain(file: str | None, template: str, draft: Path) -> tuple[bytes, str]:
    """Return the text and where it came from.

    Args:
        file: A path, `-` for standard input, or None for the editor.
        template: What the editor opens with.
        draft: Where the editor's text is kept, so that a refused text is not lost.

    Raises:
        BadInput: The file cannot be read, or there is no editor and no file.
    """
    if file == "-":
        return sys.stdin.buffer.read(), "file"
    if file is not None:
        try:
            return Path(file).read_bytes(), "file"
        except OSError as error:
            raise BadInput(
                f"cannot be read: {error.strerror or error}", where=file, fix="give the path of a text file"
            ) from error
    if not draft.exists():
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(template, encoding="utf-8")
    if not sys.stdin.isatty() or not _has_editor():
        raise BadInput(
            "there is no editor to open here",
            fix=f"fill in {draft} with any program, then repeat the command with --file {draft}",
        )
    click.edit(filename=str(draft))
    return draft.read_bytes(), "editor"


def _has_editor() -> bool:
    if os.environ.get("VISUAL") or os.environ.get("EDITOR") or os.name == "nt":
        return True
    return any(shutil.which(name) for name in ("sensible-editor", "vim", "nano", "vi"))


def signed(by: str | None, fallback: str) -> str:
    """Return who signs: `--by`, or the manifest's operator.

    Raises:
        BadInput: Neither is given.
    """
    name = (by or fallback).strip()
    if not name:
        raise BadInput("an answer needs its author", fix='add --by "Your Name"')
    return name
