"""The text of a registry file: reading its entries, and putting one in without touching the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from attrs import frozen

from atlas.catalog import KINDS, Card
from atlas.errors import BadInput

__all__ = ["LISTED_KINDS", "MAX_BYTES", "Entry", "Status", "parse_entries", "with_entry", "within"]

MAX_BYTES = 1024 * 1024
Status = Literal["operational", "provisional", "deferred", "retired"]
STATUSES: tuple[Status, ...] = ("operational", "provisional", "deferred", "retired")
LISTED_KINDS = tuple(kind for kind in KINDS if kind not in ("commands", "report_sections"))
"""Kinds of offer that a registry lists: those that a manifest or a record names."""
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@frozen
class Entry:
    """An admitted plugin.

    Attributes:
        plugin: Entry point name.
        distribution: The distribution that offers it.
        versions: PEP 440 specifier of the admitted versions.
        card: sha256 of the admitted card.
        status: `operational` and `provisional` are admitted, `deferred` and `retired` are not.
        offers: Names by kind, as the card has them; schemas carry their version, `spectrum/1`.
    """

    plugin: str
    distribution: str
    versions: str
    card: str
    status: Status
    offers: Mapping[str, tuple[str, ...]]

    def refuses(self, card: Card) -> str | None:
        """Return why a card is not what was admitted, or None."""
        if self.status in ("deferred", "retired"):
            return f"the registry lists it as {self.status}"
        if card.distribution != self.distribution:
            return f"it comes from {card.distribution}; the registry admits {self.distribution}"
        if not within(card.version, self.versions):
            return f"its version is {card.version}; the registry admits {self.versions}"
        if card.sha256 != self.card:
            return "its card changed since it was admitted"
        return None


def within(version: str, specifier: str) -> bool:
    """Whether a version lies in a range, pre-releases included; one that is no PEP 440 version does not."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def parse_entries(data: bytes, where: str) -> dict[str, Entry]:
    """Read a registry's bytes, refusing whatever is not plainly a registry."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    def refuse(what: str, fix: str) -> BadInput:
        return BadInput(what, where=where, fix=fix)

    if len(data) > MAX_BYTES:
        raise refuse("the registry is larger than 1 MiB", "remove what is no longer used")
    try:
        for event in yaml.parse(data, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                raise refuse("the registry holds an alias", "write each entry out")
        content = yaml.load(data, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise refuse(f"not YAML: {' '.join(str(error).split())}", "correct the file") from error
    if not isinstance(content, dict) or content.get("registry") != 1:
        raise refuse("not a registry of format 1", "begin the file with `registry: 1`")
    unknown = set(content) - {"registry", "plugins"}
    plugins = content.get("plugins") or {}
    if unknown or not isinstance(plugins, dict):
        raise refuse("the registry's keys are `registry` and `plugins`", "list plugins under `plugins:`")
    entries = {}
    for plugin, item in plugins.items():
        place = f"the entry {plugin!r}"
        texts = ("distribution", "versions", "card", "status")
        if not isinstance(item, dict) or set(item) - {*texts, "offers"}:
            raise refuse(f"{place} has other keys than {', '.join(texts)}, offers", "remove them")
        for key in texts:
            if not isinstance(item.get(key), str):
                raise refuse(f"{place} has no text `{key}`", "run `atlas registry add` again")
        if not re.fullmatch(r"[0-9a-f]{64}", item["card"]):
            raise refuse(f"{place}: `card` is no sha256", "run `atlas registry add` again")
        if item["status"] not in STATUSES:
            raise refuse(
                f"{place}: unknown status {item['status']!r}", f"choose one of: {', '.join(STATUSES)}"
            )
        try:
            SpecifierSet(item["versions"])
        except InvalidSpecifier as error:
            raise refuse(f"{place}: {error}", "write a range such as '>=0.1,<0.2'") from error
        offers = item.get("offers") or {}
        if not isinstance(offers, dict) or not all(
            kind in KINDS and isinstance(names, list) and all(isinstance(name, str) for name in names)
            for kind, names in offers.items()
        ):
            raise refuse(
                f"{place}: `offers` are lists of names by kind", f"kinds are: {', '.join(LISTED_KINDS)}"
            )
        entries[str(plugin)] = Entry(
            str(plugin),
            item["distribution"],
            item["versions"],
            item["card"],
            item["status"],
            {kind: tuple(names) for kind, names in offers.items()},
        )
    return entries


def with_entry(text: str, entry: Entry) -> str:
    """Return a registry's text with one entry put in or replaced, all else unchanged."""
    head, blocks, tail = _blocks(text)
    comment, _ = blocks.get(entry.plugin, ("", ""))
    lines = [
        f"  {entry.plugin}:",
        f"    distribution: {entry.distribution}",
        f'    versions: "{entry.versions}"',
        f'    card: "{entry.card}"',
        f"    status: {entry.status}",
        "    offers:" if entry.offers else "    offers: {}",
        *(f"      {kind}: [{', '.join(names)}]" for kind, names in entry.offers.items()),
    ]
    blocks[entry.plugin] = (comment, "\n".join(lines) + "\n")
    body = "".join(comment + block for _, (comment, block) in sorted(blocks.items()))
    return head + body + tail


def _blocks(text: str) -> tuple[str, dict[str, tuple[str, str]], str]:
    """Divide a registry's text into its head up to `plugins:`, its entries, and what follows them.

    An entry is its comment lines and its own lines.
    """
    lines = text.splitlines(keepends=True)
    start = next((n for n, line in enumerate(lines) if re.match(r"plugins:", line)), None)
    if start is None:
        head = text if text.endswith("\n") or not text else text + "\n"
        return f"{head}plugins:\n", {}, ""
    head = "".join(lines[:start]) + "plugins:\n"
    blocks: dict[str, tuple[str, str]] = {}
    name, pending = None, ""
    for line in lines[start + 1 :]:
        line = line if line.endswith("\n") else line + "\n"
        match = re.match(r"  (?P<q>[\"']?)([^\s#\"'][^:\"']*)(?P=q):\s*(#.*)?$", line)
        if match:
            name = match.group(2)
            blocks[name] = (pending, line)
            pending = ""
        elif not line.strip() or line.lstrip().startswith("#"):
            pending += line
        elif name is not None:
            comment, block = blocks[name]
            blocks[name] = (comment, block + pending + line)
            pending = ""
    return head, blocks, pending
