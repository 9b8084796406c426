"""What is admitted: the registry file, its place, and its difference from what is installed.

Entry points say what exists; `registry.yaml` says what a governed run may use. The file is looked for
beside the manifest, then upwards as far as the project's root (the first folder that holds `.git` or
`pyproject.toml`), and last the copy that ships with Atlas is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from attrs import evolve, field, frozen

from atlas.catalog import KINDS, Card, Catalog
from atlas.errors import BadInput, PluginFault

__all__ = ["REGISTRY", "Difference", "Entry", "Registry", "Status"]

REGISTRY = "registry.yaml"
MAX_BYTES = 1024 * 1024
Status = Literal["operational", "provisional", "deferred", "retired"]
STATUSES: tuple[Status, ...] = ("operational", "provisional", "deferred", "retired")
_LISTED_KINDS = tuple(kind for kind in KINDS if kind not in ("commands", "report_sections"))
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
        if not _within(card.version, self.versions):
            return f"its version is {card.version}; the registry admits {self.versions}"
        if card.sha256 != self.card:
            return "its card changed since it was admitted"
        return None


@frozen
class Difference:
    """How one plugin stands between registry and installation.

    Attributes:
        plugin: Entry point name.
        state: `not listed`, `not installed`, `changed` or `broken`.
        detail: Distribution and version, or what differs.
    """

    plugin: str
    state: Literal["not listed", "not installed", "changed", "broken"]
    detail: str

    def __str__(self) -> str:
        """Render on one line."""
        return f"{self.plugin}: {self.state} ({self.detail})"


@frozen
class Registry:
    """A registry file.

    Attributes:
        path: The file, or None where there is none at all and nothing is admitted.
        entries: By plugin name.
    """

    path: Path | None
    entries: Mapping[str, Entry] = field(factory=dict)

    @classmethod
    def find(cls, folder: Path) -> Registry:
        """Read the registry that holds for a manifest in `folder`.

        Raises:
            BadInput: The file that was found is not a registry.
        """
        for place in (folder.resolve(), *folder.resolve().parents):
            if (place / REGISTRY).is_file():
                return cls.read(place / REGISTRY)
            if (place / ".git").exists() or (place / "pyproject.toml").exists():
                break
        shipped = Path(__file__).with_name(REGISTRY)
        # An editable installation has no built copy: its source is the file at the root.
        for path in (shipped, shipped.parents[1] / REGISTRY):
            if path.is_file():
                return cls.read(path)
        return cls(None)

    @classmethod
    def read(cls, path: Path) -> Registry:
        """Read a registry file.

        Raises:
            BadInput: It cannot be read or is not a registry.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadInput(
                f"the registry cannot be read: {error.strerror or error}", where=str(path)
            ) from error
        return cls(path, _parse(data, str(path)))

    def admits(self, card: Card) -> str | None:
        """Return None where a plugin is admitted, else the reason why not."""
        entry = self.entries.get(card.plugin)
        return entry.refuses(card) if entry is not None else f"it is not in {self.path or 'any registry'}"

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of a kind that the registry lists, installed or not."""
        return tuple(sorted({name for entry in self.entries.values() for name in entry.offers.get(kind, ())}))

    def distribution(self, kind: str, name: str) -> str | None:
        """Return the distribution that offers a listed name, for `pip install`."""
        return next((e.distribution for e in self.entries.values() if name in e.offers.get(kind, ())), None)

    def check(self, catalog: Catalog) -> tuple[Difference, ...]:
        """Return what differs between what is listed and what is installed, by plugin name."""
        cards = {card.plugin: card for card in catalog.cards}
        found = []
        for plugin in sorted({*self.entries, *cards}):
            entry, card = self.entries.get(plugin), cards.get(plugin)
            if card is None:
                assert entry is not None
                found.append(
                    Difference(
                        plugin, "not installed", f"{entry.distribution} {entry.versions}, {entry.status}"
                    )
                )
            elif card.fault is not None:
                found.append(
                    Difference(plugin, "broken", f"{card.distribution} {card.version}: {card.fault}")
                )
            elif entry is None:
                found.append(Difference(plugin, "not listed", f"{card.distribution} {card.version}"))
            elif (reason := entry.refuses(card)) is not None:
                found.append(Difference(plugin, "changed", f"{card.distribution} {card.version}: {reason}"))
        return tuple(found)

    def add(self, card: Card, *, status: Status | None = None) -> Registry:
        """Admit a plugin as it is installed, and return the registry read anew.

        The file's head, its other entries and their comments stay byte for byte as they were; entries
        stand in the order of their names. A known plugin keeps its status and, where it still admits
        the installed version, its range; a new one is `provisional`.

        Raises:
            PluginFault: The plugin is broken.
            BadInput: There is no registry file, or it is not laid out so that it can be rewritten.
        """
        if card.fault is not None:
            raise PluginFault(card.fault, who=card.who)
        if self.path is None:
            raise BadInput("there is no registry to add to", fix=f"make a file {REGISTRY}: `registry: 1`")
        known = self.entries.get(card.plugin)
        versions = _range(card.version)
        if known is not None and _within(card.version, known.versions):
            versions = known.versions
        offers = {
            kind: tuple(sorted(offer.name for offer in card.offers if offer.kind == kind))
            for kind in _LISTED_KINDS
        }
        entry = Entry(
            card.plugin,
            card.distribution,
            versions,
            card.sha256,
            status or (known.status if known is not None else "provisional"),
            {kind: names for kind, names in offers.items() if names},
        )
        expected = {**self.entries, card.plugin: entry}
        text = _with_entry(self.path.read_bytes().decode("utf-8"), entry)
        if _parse(text.encode("utf-8"), str(self.path)) != expected:
            raise BadInput(
                "the registry cannot be rewritten without losing its layout",
                where=str(self.path),
                fix="write each plugin as a block of its own, indented by two spaces, under `plugins:`",
            )
        _replace(self.path, text.encode("utf-8"))
        return evolve(self, entries=expected)


def _within(version: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _range(version: str) -> str:
    """Return the range of versions that promise compatibility with this one."""
    from packaging.version import InvalidVersion, Version

    try:
        release = (*Version(version).release, 0, 0)
    except InvalidVersion:
        return f"==={version}"
    major, minor = release[0], release[1]
    return f">={version},<{major + 1}" if major else f">={version},<0.{minor + 1}"


def _parse(data: bytes, where: str) -> dict[str, Entry]:
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
                f"{place}: `offers` are lists of names by kind", f"kinds are: {', '.join(_LISTED_KINDS)}"
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


def _with_entry(text: str, entry: Entry) -> str:
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


def _replace(path: Path, data: bytes) -> None:
    """Put new bytes in a file's place so that a crash leaves either the old or the new ones."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
