"""Checking a bag against its manifests (RFC 8493): every byte there, nothing else there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from atlas.bundle.findings import Digest, Finding, digest_file, walk
from atlas.bundle.opening import BAGIT, PAYLOAD
from atlas.run.kept import KEPT

__all__ = ["check_bag", "digest_all"]

_LINE = re.compile(r"([0-9A-Fa-f]+)[ \t]+\*?(.+)")
_DECLARATION = re.compile(r"BagIt-Version: \d+\.\d+\r?\nTag-File-Character-Encoding: UTF-8\r?\n?")
_ALGORITHMS = ("sha256", "sha512")


def digest_all(root: Path) -> tuple[dict[str, Digest], list[Finding]]:
    """Read every file below a folder once; links and unreadable files become findings.

    What steps keep between attempts is no part of a record, may be gigabytes, and is not read.
    """
    digests, findings = {}, []
    for path, file in walk(root):
        if path.startswith(f"{KEPT}/"):
            continue
        if file.is_symlink():
            findings.append(Finding(path, "a symbolic link has no place in a record"))
            continue
        try:
            digests[path] = digest_file(file)
        except OSError as error:
            findings.append(Finding(path, f"the file cannot be read: {error.strerror}"))
    return digests, findings


def check_bag(bag: Path, digests: Mapping[str, Digest]) -> Iterator[Finding]:
    """Yield what differs between a bag and its manifests; `digests` are those of all its files."""
    try:
        declaration = (bag / BAGIT).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        declaration = ""
    if not _DECLARATION.fullmatch(declaration):
        yield Finding(BAGIT, "not the declaration of a bag")
    payload = {path for path in digests if path.startswith(f"{PAYLOAD}/")}
    present = [name for name in _ALGORITHMS if f"manifest-{name}.txt" in digests]
    if not present:
        yield Finding("manifest-sha256.txt", "the bag has no manifest that can be checked")
    for algorithm in present:
        yield from _check_manifest(bag, f"manifest-{algorithm}.txt", algorithm, digests, payload)
        tags = f"tagmanifest-{algorithm}.txt"
        if tags in digests:
            expected = {p for p in digests if "/" not in p and not p.startswith("tagmanifest-")}
            yield from _check_manifest(bag, tags, algorithm, digests, expected)


def _check_manifest(
    bag: Path, name: str, algorithm: str, digests: Mapping[str, Digest], expected: set[str]
) -> Iterator[Finding]:
    try:
        lines = (bag / name).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        yield Finding(name, "not UTF-8 text")
        return
    listed: set[str] = set()
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            yield Finding(f"{name}:{number}", "not a line of a manifest: expected a digest and a path")
            continue
        path = match[2].replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
        if path in listed:
            yield Finding(f"{name}:{number}", f"{path} is listed twice")
        listed.add(path)
        digest = digests.get(path)
        if digest is None:
            yield Finding(path, f"{name} lists it, and it is not in the bag")
        elif getattr(digest, algorithm) != match[1].lower():
            yield Finding(path, f"its bytes differ from {name}")
    for path in sorted(expected - listed):
        yield Finding(path, f"it is in the bag, and {name} does not list it")
