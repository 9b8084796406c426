"""Paths in parameters: model files may lie anywhere, what a run copies must lie in the manifest's folder."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

__all__ = ["FILES", "Unusable", "anywhere", "inside"]

FILES = "stimulus/files"
"""Where the host keeps copies of inside files in a run folder."""
MAX_FILES = 1000
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


class Unusable(ValueError):
    """A path that cannot be used: `what`, and what to write instead in `fix`."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what)


def _plain(text: str) -> None:
    if not text or _HIDDEN.search(text) or any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise Unusable("the path is empty or holds a hidden character", "write the path of a file or folder")


def anywhere(text: str, folder: Path) -> str:
    """Return the absolute path of an existing file or folder; `~` is the user's home.

    Args:
        text: Absolute, or relative to `folder`.
        folder: The manifest's folder.

    Raises:
        Unusable: There is no such file or folder.
    """
    _plain(text)
    try:
        path = (folder / Path(text).expanduser()).resolve()
        exists = path.exists()
    except (OSError, RuntimeError) as error:
        raise Unusable(
            f"the path cannot be followed: {error}", "write the path of a file or folder"
        ) from error
    if not exists:
        raise Unusable(f"there is no file or folder {path}", "correct the path, or put the file there")
    return str(path)


def inside(text: str, folder: Path) -> tuple[str, dict[str, Path]]:
    """Return a path as a run folder's copy of the manifest writes it, and the files behind it.

    Args:
        text: Relative to `folder`, with forward slashes. It may name a folder; then all files in it
            are meant.
        folder: The manifest's folder.

    Returns:
        `stimulus/files/<relative>`, and the files by their relative paths. A path that begins with
        `stimulus/files/` already keeps its form, so that a copied manifest reads the same.

    Raises:
        Unusable: The path leaves the folder, by itself or by a symbolic link, or leads nowhere.
    """
    _plain(text)
    if text.startswith(("/", "~")) or "\\" in text or ":" in text:
        raise Unusable(
            f"the path {text!r} is not relative to the manifest's folder",
            "put the file beside the manifest and write its relative path, with forward slashes",
        )
    pure = PurePosixPath(text)
    if ".." in pure.parts:
        raise Unusable(f"the path {text!r} leaves the manifest's folder", "put the file beside the manifest")
    if not pure.parts or any(_RESERVED.fullmatch(part) or part != part.rstrip(". ") for part in pure.parts):
        raise Unusable(f"the path {text!r} is no file name on every system", "rename the file")
    root = folder.resolve()
    path = root.joinpath(*pure.parts)
    kept = PurePosixPath(FILES)
    relative = pure.relative_to(kept) if pure.is_relative_to(kept) and pure != kept else pure
    if not path.exists():
        raise Unusable(f"there is no file {path}", "correct the path, or put the file there")
    found = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    if not found or len(found) > MAX_FILES:
        raise Unusable(
            f"{text!r} holds {len(found)} files, from 1 to {MAX_FILES} can be copied", "name one file"
        )
    files = {}
    for item in found:
        if not item.resolve().is_relative_to(root):
            raise Unusable(
                f"{item.name!r} is a symbolic link that leaves the manifest's folder", "put a copy there"
            )
        files[(relative / item.relative_to(path).as_posix()).as_posix()] = item.resolve()
    return (kept / relative).as_posix(), files
