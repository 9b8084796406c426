"""What is admitted: the registry file, its place, and its difference from what is installed.

Entry points say what exists; `registry.yaml` says what a governed run may use. The file is looked for
beside the manifest, then upwards as far as the project's root (the first folder that holds `.git` or
`pyproject.toml`), and last the copy that ships with Atlas is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from attrs import evolve, field, frozen

from atlas.catalog import Card, Catalog
from atlas.errors import BadInput, PluginFault
from atlas.registry_file import LISTED_KINDS, MAX_BYTES, Entry, parse_entries, with_entry, within

__all__ = ["REGISTRY", "Difference", "Entry", "Registry"]

REGISTRY = "registry.yaml"


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
        return cls(path, parse_entries(data, str(path)))

    def admits(self, card: Card) -> str | None:
        """Return None where a plugin is admitted, else the reason why not."""
        entry = self.entries.get(card.plugin)
        if entry is None:
            # The name alone: reasons are kept in run folders, which hold no path of this machine.
            return f"it is not in {self.path.name if self.path is not None else 'any registry'}"
        return entry.refuses(card)

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

    def add(self, card: Card) -> Registry:
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
        if known is not None and within(card.version, known.versions):
            versions = known.versions
        offers = {
            kind: tuple(sorted(offer.name for offer in card.offers if offer.kind == kind))
            for kind in LISTED_KINDS
        }
        entry = Entry(
            card.plugin,
            card.distribution,
            versions,
            card.sha256,
            known.status if known is not None else "provisional",
            {kind: names for kind, names in offers.items() if names},
        )
        expected = {**self.entries, card.plugin: entry}
        text = with_entry(self.path.read_bytes().decode("utf-8"), entry)
        if parse_entries(text.encode("utf-8"), str(self.path)) != expected:
            raise BadInput(
                "the registry cannot be rewritten without losing its layout",
                where=str(self.path),
                fix="write each plugin as a block of its own, indented by two spaces, under `plugins:`",
            )
        _replace(self.path, text.encode("utf-8"))
        return evolve(self, entries=expected)


def _range(version: str) -> str:
    """Return the range of versions that promise compatibility with this one."""
    from packaging.version import InvalidVersion, Version

    try:
        release = (*Version(version).release, 0, 0)
    except InvalidVersion:
        return f"==={version}"
    major, minor = release[0], release[1]
    return f">={version},<{major + 1}" if major else f">={version},<0.{minor + 1}"


def _replace(path: Path, data: bytes) -> None:
    """Put new bytes in a file's place so that a crash leaves either the old or the new ones."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
