"""A manifest while it is being resolved: its document, what was found for it, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import define, field

from atlas.catalog import KINDS, Catalog, Offer
from atlas.errors import AtlasError
from atlas.manifest import paths
from atlas.manifest.document import Document, KeyPath
from atlas.manifest.mistakes import Mistake
from atlas.manifest.model import SOURCE_KEYS, source_params
from atlas.manifest.structure import annotated, check, fill, schema_fault
from atlas.manifest.wording import choices
from atlas.registry import Registry

__all__ = ["Draft"]


@define
class Draft:
    """Gathers mistakes, offers and files of one manifest.

    Attributes:
        document: The manifest with its overrides.
        folder: Its folder, absolute.
        catalog: What is installed.
        registry: What is admitted.
        mistakes: What is wrong so far.
        offers: Every offer that was named, by (kind, name).
        named_at: Where each offer was named first.
        inside_files: Files within the manifest's folder that it refers to.
        moved: Paths of such files as the manifest writes them, by where it does.
    """

    document: Document
    folder: Path
    catalog: Catalog
    registry: Registry
    mistakes: list[Mistake] = field(factory=list)
    offers: dict[tuple[str, str], Offer] = field(factory=dict)
    named_at: dict[tuple[str, str], KeyPath] = field(factory=dict)
    inside_files: dict[str, Path] = field(factory=dict)
    moved: dict[KeyPath, str] = field(factory=dict)

    def wrong(self, path: KeyPath, what: str, fix: str, *, key: bool = False) -> None:
        """Note a mistake at a path, unless the YAML there is wrong itself."""
        if not self.document.is_flawed(path):
            self.mistakes.append(Mistake(self.document.place(path, key=key), what, fix))

    def offer(self, kind: str, name: Any, path: KeyPath) -> Offer | None:
        """Return the offer that the manifest names at a path, or note why there is none."""
        if not isinstance(name, str) or self.document.is_flawed(path):
            return None
        if not any((o.kind, o.name) == (kind, name) for card in self.catalog.cards for o in card.offers):
            self.wrong(path, *self._unavailable(kind, name))
            return None
        try:
            found = self.catalog.find(kind, name)
        except AtlasError as error:
            who = f" ({error.who})" if error.who else ""
            self.wrong(path, f"{error.what}{who}", error.fix or "repair or uninstall that plugin")
            return None
        self.offers[kind, name] = found
        self.named_at.setdefault((kind, name), path)
        return found

    def _unavailable(self, kind: str, name: str) -> tuple[str, str]:
        """Return what and fix for a name that no sound plugin offers."""
        noun = f"the {KINDS[kind]} {name!r}"
        distribution = self.registry.distribution(kind, name)
        if distribution is not None:
            card = next((card for card in self.catalog.cards if card.distribution == distribution), None)
            if card is None:
                return f"{noun} is not installed", f"type: pip install {distribution}"
            fault = card.fault or "its card does not offer it"
            return f"{noun} cannot be used: {fault} ({card.who})", f"pip install --upgrade {distribution}"
        names = {offer.name for offer in self.catalog.offers(kind)} | set(self.registry.names(kind))
        faults = "; ".join(f"{card.who}: {card.fault}" for card in self.catalog.cards if card.fault)
        return (
            f"no installed plugin offers {noun}",
            choices(name, names) + (f" (plugins that cannot be read: {faults})" if faults else ""),
        )

    def source(self, kind: str, entry: Any, path: KeyPath) -> Any:
        """Check an entry of the form `{use: NAME, ...}` by the card of what it uses.

        Returns:
            The entry with the card's defaults filled in and its paths settled.
        """
        if not isinstance(entry, dict):
            return entry
        offer = self.offer(kind, entry.get("use"), (*path, "use"))
        if offer is None:
            return entry
        params = source_params(kind, entry, offer)
        settled, _ = self.params(offer, params, path, also_known=SOURCE_KEYS[kind])
        return {**entry, **settled} if isinstance(settled, dict) else entry

    def params(
        self, offer: Offer, params: Any, path: KeyPath, *, also_known: tuple[str, ...] = ()
    ) -> tuple[Any, tuple[Offer, ...]]:
        """Check parameters by a card.

        Args:
            offer: Whose parameters they are.
            params: As written.
            path: Where they stand.
            also_known: Keys of the host that may stand beside them.

        Returns:
            The parameters with defaults filled in and paths settled, and the offers that they name.
        """
        if not isinstance(params, dict):  # the format's own schema says so
            return params, ()
        fault = schema_fault(offer.params)
        if fault is not None:
            self.wrong(
                path,
                f"the card's schema of {offer.name!r} cannot be used: {fault} ({offer.who})",
                f"report it to the authors of {offer.distribution}",
            )
            return params, ()
        found = check(
            self.document,
            path,
            params,
            offer.params,
            subject=f" of the {KINDS[offer.kind]} {offer.name!r}",
            also_known=also_known,
        )
        self.mistakes += found
        if found:
            return params, ()
        filled = fill(offer.params, params)
        named: dict[KeyPath, Offer] = {}
        for at, value, kind in annotated(offer.params, filled, "x-atlas-kind"):
            if kind not in KINDS:
                self.wrong(path, f"the card names no kind of offer: {kind!r} ({offer.who})", "report it")
            elif isinstance(value, str):
                offered = self.offer(kind, value, (*path, *at))
                if offered is not None:
                    named[at] = offered
        others = list(named.values())
        for at, value, sibling in annotated(offer.params, filled, "x-atlas-params-of"):
            whose = named.get((*at[:-1], sibling))
            if whose is not None:
                settled, more = self.params(whose, value, (*path, *at))
                filled = _put(filled, at, settled)
                others += more
        for at, value, rule in annotated(offer.params, filled, "x-atlas-path"):
            if isinstance(value, str):
                filled = _put(filled, at, self._path(value, rule, (*path, *at)))
        return filled, tuple(others)

    def _path(self, text: str, rule: str, at: KeyPath) -> str:
        try:
            if rule == "inside":
                settled, files = paths.inside(text, self.folder)
                self.inside_files.update(files)
                self.moved[at] = text
                return settled
            return paths.anywhere(text, self.folder)
        except paths.Unusable as unusable:
            self.wrong(at, unusable.what, unusable.fix)
            return text

    def as_written(self, key: str, entry: Any) -> Any:
        """Return a settled top entry with the paths of inside files as the manifest writes them."""
        for at, text in self.moved.items():
            if at[0] == key and entry is not None:
                entry = _put(entry, at[1:], text)
        return entry


def _put(data: Any, path: KeyPath, value: Any) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(data, list):
        return [_put(item, rest, value) if n == head else item for n, item in enumerate(data)]
    assert isinstance(data, Mapping)
    return {key: _put(item, rest, value) if key == head else item for key, item in data.items()}
