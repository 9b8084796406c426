"""The roles of the chain: what each is given, and the one message that is made of it.

| role | is given | its message |
| --- | --- | --- |
| `planner` | programme context, files of the manifest | the files as they are |
| `prompt` | the planner's answer | that answer |
| `analysis` | the prompt step's answer and raw tables | the prompt, then the tables |
| `synthesis` | raw tables and Read 1 | the tables, then the Read |

The host refuses a manifest that lets a role see more (`x-atlas-sees` on the card); here the same is held
against what a step's process really received. No role has a system prompt or any other word of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from attrs import frozen

from atlas.contracts import Package
from atlas.errors import BadInput
from atlas_synthesis.package import ANSWER, READ, TABLE, digest_of, fenced, lean, plain, rows

__all__ = ["ROLES", "Role", "gather", "package_of"]

FILES = "stimulus/files/"
"""Where a run keeps its copies of the manifest's files."""

_CONTEXT = re.compile(rf"{FILES}.+")


@frozen
class Role:
    """What one role of the chain is given.

    Attributes:
        takes: Patterns of the paths that may come into its package; anything else is refused.
        needs: Patterns of which at least one path must be there, with what to say where none is.
        render: Makes its message of the package's files.
    """

    takes: tuple[re.Pattern[str], ...]
    needs: tuple[tuple[re.Pattern[str], str], ...]
    render: Callable[[Mapping[str, bytes]], str]


def gather(role: str, inputs: Mapping[str, Path]) -> tuple[Package, tuple[str, ...]]:
    """Build a role's package from what its step sees.

    What else lies beside raw tables (their schemas, facts, attachments) stays out, since a package is lean.

    Args:
        role: A key of `ROLES`.
        inputs: Path in the run folder -> read-only copy, without the answer that a person brought.

    Returns:
        The package, and the paths that were left out.

    Raises:
        BadInput: The step sees what its role may not, lacks what it needs, or a file is no UTF-8 text.
    """
    known = ROLES[role]
    taken: dict[str, bytes] = {}
    left: list[str] = []
    for path, copy in sorted(inputs.items()):
        if any(pattern.fullmatch(path) for pattern in known.takes):
            taken[path] = copy.read_bytes()
        elif TABLE in known.takes and path.startswith("raw/") and not ANSWER.fullmatch(path):
            left.append(path)
        else:
            raise BadInput(
                f"a step of role {role} may not see {path}", fix="take it out of the step's `sees`"
            )
    return package_of(role, taken), tuple(left)


def package_of(role: str, files: Mapping[str, bytes]) -> Package:
    """Return the package of these files, with the message that the role makes of them.

    Raises:
        BadInput: The role lacks what it needs, or a file is no UTF-8 text.
    """
    for path, data in files.items():
        plain(path, data)
    for pattern, fault in ROLES[role].needs:
        found = [path for path in files if pattern.fullmatch(path)]
        if not any(pattern is not TABLE or len(rows(path, files[path])) > 1 for path in found):
            raise BadInput(f"a step of role {role} {fault}")
    return Package(digest_of(files), dict(files), ROLES[role].render(files).encode("utf-8"))


def _context(files: Mapping[str, bytes]) -> str:
    """Return one document as it is, several under their names."""
    texts = {path: plain(path, files[path]).strip() + "\n" for path in sorted(files)}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n".join(f"## {path.removeprefix(FILES)}\n\n{text}" for path, text in texts.items())


def _plan(files: Mapping[str, bytes]) -> str:
    return "\n".join(plain(path, files[path]).strip() + "\n" for path in sorted(files))


def _analysis(files: Mapping[str, bytes]) -> str:
    prompt = {path: data for path, data in files.items() if ANSWER.fullmatch(path)}
    return f"{_plan(prompt)}\n{_tables(files)}"


def _synthesis(files: Mapping[str, bytes]) -> str:
    parts = [_tables(files)]
    for path in sorted((path for path in files if READ.fullmatch(path)), key=_read_order):
        title = "Read" if path == "reads/read-1.md" else "Read, addition"
        parts.append(f"## {title}\n\n{plain(path, files[path]).strip()}\n")
    return "\n".join(parts)


def _tables(files: Mapping[str, bytes]) -> str:
    """Return each table under its name as a CSV block without the columns that are empty throughout."""
    tables = sorted(path for path in files if TABLE.fullmatch(path))
    names = [PurePosixPath(path).name for path in tables]
    parts = []
    for path in tables:
        name = PurePosixPath(path).name
        title = name if names.count(name) == 1 else "/".join(path.split("/")[-2:])
        parts.append(f"## {title}\n\n{fenced(lean(path, files[path]))}")
    return "\n".join(parts)


def _read_order(path: str) -> tuple[int, int]:
    number = re.search(r"amendment-([0-9]+)", path)
    return (0, 0) if number is None else (1, int(number[1]))


_NO_TABLE = "is given no raw table, so there is nothing to read: add `{from: STEP.raw}` to its `sees`"

ROLES: Mapping[str, Role] = {
    "planner": Role(
        (_CONTEXT,), ((_CONTEXT, "is given no context: name files under `params.context`"),), _context
    ),
    "prompt": Role((ANSWER,), ((ANSWER, "is given no plan: add `{from: PLANNER.answer}`"),), _plan),
    "analysis": Role(
        (ANSWER, TABLE),
        ((ANSWER, "is given no prompt: add `{from: PROMPT.answer}`"), (TABLE, _NO_TABLE)),
        _analysis,
    ),
    "synthesis": Role((TABLE, READ), ((TABLE, _NO_TABLE),), _synthesis),
}
