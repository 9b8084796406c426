"""A distribution made from a template by giving it a name.

The templates are distributions that pass their own tests: the only thing to be replaced in them is the
name, in the four ways in which it is spelled.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from atlas.catalog import Catalog
from atlas.errors import BadInput

__all__ = ["KINDS", "create"]

KINDS = {
    "instrument": "instruments",
    "schema": "schemas",
    "loss-term": "loss_terms",
    "synthesis": "synthesis_adapters",
    "target": "targets",
}
"""What there are templates for, and the kind of a card's offers that each makes."""

_TEMPLATES = Path(__file__).with_name("templates")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LEFT_OUT = {"__pycache__", "build", "runs", ".pytest_cache"}


def create(kind: str, name: str, folder: Path, catalog: Catalog) -> tuple[Path, ...]:
    """Write the distribution `atlas-NAME` into a new folder, whole or not at all.

    Args:
        kind: A key of `KINDS`.
        name: Lower-case words joined by hyphens; what manifests will write.
        folder: Made here; it must not exist, or be empty.
        catalog: What is installed, so that a name that is taken is refused.

    Returns:
        The files, below the folder, sorted.

    Raises:
        BadInput: The name cannot be one or is taken, or the folder cannot be made.
    """
    _check_name(kind, name, catalog)
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInput("the folder is not empty", where=str(folder), fix="name a new one as last argument")
    if folder.exists() and not folder.is_dir():
        raise BadInput("is a file", where=str(folder), fix="name a new folder as last argument")
    spellings = _spellings(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            files = [_render(source, kind, made, spellings) for source in _sources(kind)]
            made.chmod(0o777 & ~_umask())
            made.replace(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise BadInput(
            f"the folder cannot be written: {error.strerror or error}", where=str(folder)
        ) from error
    return tuple(sorted(folder / file.relative_to(made) for file in files))


def _check_name(kind: str, name: str, catalog: Catalog) -> None:
    if not _NAME.fullmatch(name) or len(name) > 40 or keyword.iskeyword(name):
        raise BadInput(
            f"{name!r} cannot be the name of a plugin",
            fix="write at most 40 lower-case letters and digits, words joined by hyphens: word-length",
        )
    card = next((card for card in catalog.cards if card.plugin == name), None)
    if card is not None:
        raise BadInput(f"{name!r} is taken by {card.who}", fix="choose another name")
    taken = [o for o in catalog.offers(KINDS[kind]) if o.name.partition("/")[0] == name]
    if taken:
        raise BadInput(f"the {kind} {name!r} is offered by {taken[0].who}", fix="choose another name")
    try:
        found = f"atlas-{name} {version(f'atlas-{name}')}"
    except PackageNotFoundError:
        return
    raise BadInput(f"a distribution {found} is installed, which pip would replace", fix="choose another name")


def _spellings(name: str) -> dict[str, str]:
    words = name.split("-")
    letters = re.sub(r"[^a-z]", "", name).upper()
    code = letters[:1] + re.sub("[AEIOU]", "", letters[1:])
    return {
        "newcomer-name": name,
        "newcomer_name": "_".join(words),
        "NewcomerName": "".join(word.capitalize() for word in words),
        "NCN": (code + letters + "XXX")[:3] if len(code) < 3 else code[:3],
    }


def _sources(kind: str) -> list[Path]:
    found = (_TEMPLATES / kind).rglob("*")
    return [path for path in found if path.is_file() and not _LEFT_OUT & {*path.parts}]


def _render(source: Path, kind: str, folder: Path, spellings: dict[str, str]) -> Path:
    path, text = source.relative_to(_TEMPLATES / kind).as_posix(), source.read_text(encoding="utf-8")
    for token, spelling in spellings.items():
        path, text = path.replace(token, spelling), text.replace(token, spelling)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8", newline="\n")
    return target


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
