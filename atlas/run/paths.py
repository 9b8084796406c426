"""Paths inside a run folder: which are safe on every platform, and where they lead on this one."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from atlas.errors import BadInput

__all__ = ["check_path", "place"]

_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"
}
_FORBIDDEN = frozenset('<>:"|?*\\')
_LONGEST = 200


def check_path(path: str) -> str:
    r"""Return `path` if it is a relative POSIX path that every platform takes alike.

    Raises:
        BadInput: It is empty, absolute, longer than 200 characters, or has a part that is `.`, `..`, a
            device name of Windows, begins with `.`, ends in a dot or a space, or holds a control or
            invisible character or one of `<>:"|?*\`.
    """
    reason = _fault(path)
    if reason is not None:
        raise BadInput(
            f"{path!r} is no safe path: {reason}",
            fix="use letters, digits, '-', '_' and '.', with '/' between folders",
        )
    return path


def _fault(path: str) -> str | None:
    if not path or len(path) > _LONGEST:
        return f"it has {len(path)} characters, expected 1 to {_LONGEST}"
    for part in path.split("/"):
        if not part:
            return "a part is empty, or it is absolute"
        if part.startswith("."):
            return f"{part!r} begins with a dot"
        if part.endswith((".", " ")):
            return f"{part!r} ends in a dot or a space"
        if part.split(".")[0].rstrip().lower() in _RESERVED:
            return f"{part!r} is a device name on Windows"
        bad = [c for c in part if c in _FORBIDDEN or (unicodedata.category(c)[0] in "CZ" and c != " ")]
        if bad:
            return f"it holds {bad[0]!r}"
        if unicodedata.normalize("NFC", part) != part:
            return f"{part!r} is not in Unicode's composed form (NFC)"
    return None


def place(root: Path, path: str) -> Path:
    """Return where a checked path lies under `root`.

    Raises:
        BadInput: The path is not safe, or a part of it is a symbolic link, wherever it leads.
    """
    result = root
    for part in check_path(path).split("/"):
        result = result / part
        if result.is_symlink():
            raise BadInput("a symbolic link has no place in a run folder", where=str(result))
    return result
