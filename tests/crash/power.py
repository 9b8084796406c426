"""Cuts the power after each call of a run, in a model of a disk that keeps only what it was told to.

    python power.py FOLDER [no-folder-sync | no-sync]

prints one JSON object. The model: a file keeps the bytes of its last fsync, and of what came later
nothing, all, half, zeros, or all but one byte; a folder keeps the names of its last fsync, and of what
came later nothing, all, or any single change. With the second argument the program under test forgets
to sync, and the campaign must find it out.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mini_run
import shim

from atlas.errors import AtlasError
from atlas.run import journal, store

Node = dict[str, Any]
"""A file: {now, kept}, bytes; or a folder: {now, kept}, name -> node, and `changes` since `kept`."""


def folder_node() -> Node:
    return {"now": {}, "kept": {}, "changes": []}


class Disk:
    """Follows the calls of a run below `root`."""

    def __init__(self, root: Path, sync_files: bool) -> None:
        self.root = root
        self.tree = folder_node()
        self.sync_files = sync_files

    def find(self, path: Path) -> Node:
        node = self.tree
        for part in path.relative_to(self.root).parts:
            node = node["now"][part]
        return node

    def change(self, path: Path, node: Node | None) -> None:
        parent = self.find(path.parent)
        parent["changes"].append((path.name, node))
        _apply(parent["now"], path.name, node)

    def meddle(self, name: str, args: tuple[Any, ...], real: Callable[[], Any]) -> Any:
        result = real()
        if name == "open":
            path = Path(args[0])
            if path.name not in self.find(path.parent)["now"]:
                self.change(path, {"now": b"", "kept": b""})
            elif args[1] & os.O_TRUNC:
                self.find(path)["now"] = b""
        elif name == "mkdir":
            self.change(Path(args[0]), folder_node())
        elif name in ("unlink", "rmdir"):
            path = self.path(args[0])
            if path is not None:
                self.change(path, None)
        elif name == "link":
            self.change(Path(args[1]), self.find(Path(args[0])))
        elif name == "rename":
            self.change(Path(args[1]), self.find(Path(args[0])))
            self.change(Path(args[0]), None)
        elif name in ("write", "ftruncate", "fsync"):
            self.on_handle(name, args, result)
        return result

    def path(self, name: Any) -> Path | None:
        """Return the path of an unlinked name; those that only rmtree sees are of no interest."""
        path = Path(name)
        return path if path.is_absolute() and path.name in self.find(path.parent)["now"] else None

    def on_handle(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        path = Path(f"/proc/self/fd/{args[0]}").readlink()
        if not path.is_relative_to(self.root):
            return
        node = self.find(path)
        if name == "write":
            node["now"] += bytes(args[1])[:result]
        elif name == "ftruncate":
            node["now"] = node["now"][: args[1]]
        elif isinstance(node["now"], dict):
            node["kept"], node["changes"] = dict(node["now"]), []
        elif self.sync_files:
            node["kept"] = node["now"]

    def states(self) -> Iterator[Node]:
        """Yield the trees that a power cut may leave now, as nested name -> bytes or tree."""
        for tail in ("nothing", "all", "half", "zeros", "but one"):
            yield _left(self.tree, lambda node: [], tail)
            yield _left(self.tree, lambda node: node["changes"], tail)
        for chosen in _folders(self.tree):
            for change in chosen["changes"]:
                yield _left(self.tree, lambda node, c=chosen, k=change: [k] if node is c else [], "all")


def _apply(names: dict[str, Any], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _folders(node: Node) -> Iterator[Node]:
    if isinstance(node["now"], dict):
        yield node
        for child in node["now"].values():
            yield from _folders(child)


def _left(node: Node, surviving: Callable[[Node], list[Any]], tail: str) -> Any:
    if isinstance(node["now"], bytes):
        kept, now = node["kept"], node["now"]
        if not now.startswith(kept):
            return kept if tail == "nothing" else now
        late = now[len(kept) :]
        cut = {"nothing": 0, "half": len(late) // 2, "but one": max(0, len(late) - 1)}.get(tail, len(late))
        return kept + (bytes(len(late)) if tail == "zeros" else late[:cut])
    names = dict(node["kept"])
    for name, child in surviving(node):
        _apply(names, name, child)
    return {name: _left(child, surviving, tail) for name, child in names.items()}


def build(tree: Any, path: Path) -> None:
    """Write a state to the real disk."""
    if isinstance(tree, bytes):
        path.write_bytes(tree)
        return
    path.mkdir()
    for name, child in tree.items():
        build(child, path / name)


def digest(tree: Any) -> str:
    """Tell states apart."""
    return hashlib.sha256(repr(tree).encode()).hexdigest()


def main(folder: Path, mutant: str) -> dict[str, Any]:
    """Carry out the campaign."""
    live = folder / "live"
    live.mkdir()
    disk = Disk(live, sync_files=mutant != "no-sync")
    states: dict[str, tuple[Any, set[str]]] = {}
    told: set[str] = set()

    def meddle(name: str, args: tuple[Any, ...], real: Callable[[], Any]) -> Any:
        result = disk.meddle(name, args, real)
        for tree in disk.states():
            states.setdefault(digest((tree, sorted(told))), (tree, set(told)))
        return result

    if mutant != "none":
        for module in (journal, store):
            module.sync_folder = lambda folder: None  # type: ignore[attr-defined]
    shim.install(meddle)
    (live / "RUN-1").mkdir()
    mini_run.resume(live / "RUN-1", told.add)
    shim.remove()
    os.fsync = lambda handle: None  # the recoveries happen on a machine that stays on
    bad = 0
    for number, (tree, acknowledged) in enumerate(states.values()):
        root = folder / str(number)
        build(tree, root)
        try:
            mini_run.resume(root / "RUN-1", acknowledged.add)
            bad += bool(mini_run.faults(root / "RUN-1", acknowledged))
        except (AtlasError, OSError):
            bad += 1
        shutil.rmtree(root)
    return {"states": len(states), "bad": bad}


if __name__ == "__main__":
    assert stat.S_ISDIR(Path(sys.argv[1]).stat().st_mode)
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
