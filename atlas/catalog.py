"""What is installed: plugins found by entry point and known by their cards, none of them imported.

A plugin's distribution has an entry point in group `atlas.plugins`; its package holds a static card,
`atlas-plugin.yaml`. The card's place is found with `importlib.util.find_spec` on the top package,
which runs no plugin code.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import yaml
from attrs import evolve, frozen

from atlas import API
from atlas.errors import BadInput, PluginFault

__all__ = ["CARD", "GROUP", "KINDS", "Card", "Catalog", "Offer", "discover", "parse_card"]

GROUP = "atlas.plugins"
CARD = "atlas-plugin.yaml"
KINDS: Mapping[str, str] = {
    "instruments": "instrument",
    "schemas": "schema",
    "loss_terms": "loss term",
    "synthesis_adapters": "synthesis adapter",
    "targets": "target",
    "stimuli": "stimulus source",
    "governance": "governance policy",
    "report_sections": "report section",
    "commands": "command",
}
"""Kinds of offer, as keys of a card's `provides`, with their names for people. Each but `commands`
has the hook `atlas_<kind>`."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@frozen
class Offer:
    """One thing that a plugin offers, as its card describes it.

    Attributes:
        kind: A key of `KINDS`.
        name: Unique within its kind among the installed plugins.
        summary: One sentence.
        params: JSON Schema of its parameters, an object schema.
        details: The card's other keys: `needs`, `outputs`, `claims`, `phase`, `code`, `use`.
        plugin: The entry point's name.
        distribution: The distribution's name.
        version: The distribution's version.
    """

    kind: str
    name: str
    summary: str
    params: Mapping[str, Any]
    details: Mapping[str, Any]
    plugin: str
    distribution: str
    version: str

    @property
    def who(self) -> str:
        """The plugin, its distribution and version, for messages."""
        return f"plugin {self.plugin!r}, {self.distribution} {self.version}"

    @property
    def phase(self) -> Literal["measure", "interpret"]:
        """The stage that steps of this instrument belong to."""
        return "interpret" if self.details.get("phase") == "interpret" else "measure"


@frozen
class Card:
    """An installed plugin. A broken one has no offers and says in `fault` what is wrong.

    Attributes:
        plugin: The entry point's name.
        module: The module that holds the hook implementations, not imported.
        distribution: The distribution's name.
        version: The distribution's version.
        sha256: Digest of the card's bytes; empty if it could not be read.
        api: Interface version that the card states.
        summary: One sentence.
        offers: What it provides.
        fault: Why it cannot be used, or None.
    """

    plugin: str
    module: str
    distribution: str
    version: str
    sha256: str = ""
    api: int | None = None
    summary: str = ""
    offers: tuple[Offer, ...] = ()
    fault: str | None = None

    @property
    def who(self) -> str:
        """The plugin, its distribution and version, for messages."""
        return f"plugin {self.plugin!r}, {self.distribution} {self.version}"


@frozen
class Catalog:
    """All installed plugins, and who offers what."""

    cards: tuple[Card, ...]

    def offers(self, kind: str) -> Iterator[Offer]:
        """Yield the offers of one kind by sound plugins."""
        return (o for card in self.cards if card.fault is None for o in card.offers if o.kind == kind)

    def clashes(self) -> tuple[str, ...]:
        """Return one message per name that two plugins claim."""
        claims: dict[tuple[str, str], list[str]] = {}
        for card in self.cards:
            for offer in card.offers:
                claims.setdefault((offer.kind, offer.name), []).append(card.who)
        return tuple(
            f"{KINDS[kind]} {name!r} is offered by {' and by '.join(who)}"
            for (kind, name), who in claims.items()
            if len(who) > 1
        )

    def find(self, kind: str, name: str) -> Offer:
        """Return an offer by name.

        Args:
            kind: A key of `KINDS`.
            name: As the manifest writes it.

        Raises:
            PluginFault: Two plugins claim the name, or the plugin that offers it is broken.
            BadInput: Nobody offers it; the message suggests close names.
        """
        found = [o for card in self.cards for o in card.offers if (o.kind, o.name) == (kind, name)]
        if len(found) > 1:
            both = " and ".join(offer.who for offer in found)
            raise PluginFault(
                f"{KINDS[kind]} {name!r} is offered twice: {both}",
                fix="uninstall one of the two distributions",
            )
        if not found:
            names = sorted({o.name for o in self.offers(kind)})
            close = get_close_matches(name, names, n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            broken = [f"{card.who}: {card.fault}" for card in self.cards if card.fault]
            raise BadInput(
                f"no installed plugin offers the {KINDS[kind]} {name!r}{hint}",
                fix=(
                    (f"choose one of: {', '.join(names)}" if names else "pip install a plugin that offers it")
                    + (f". Plugins that could not be read: {'; '.join(broken)}" if broken else "")
                ),
            )
        card = self.card(found[0].plugin)
        if card.fault is not None:
            raise PluginFault(card.fault, who=card.who)
        return found[0]

    def card(self, plugin: str) -> Card:
        """Return the card of an installed plugin, by entry point name."""
        return next(card for card in self.cards if card.plugin == plugin)


def parse_card(data: bytes, *, plugin: str, module: str, distribution: str, version: str) -> Card:
    """Read a card's bytes; whatever is wrong with it becomes its `fault`."""
    card = Card(plugin, module, distribution, version, sha256=hashlib.sha256(data).hexdigest())

    def faulty(reason: str) -> Card:
        return evolve(card, fault=reason)

    try:
        content = yaml.load(data, Loader=_Loader)
    except yaml.YAMLError as error:
        return faulty(f"{CARD} is not YAML: {' '.join(str(error).split())}")
    if not isinstance(content, dict) or not isinstance(content.get("provides"), dict):
        return faulty(f"{CARD} has no mapping `provides`")
    api = content.get("api")
    if api != API:
        return faulty(f"{CARD} is written for plugin interface {api!r}; this host speaks {API}")
    offers = []
    for kind, entries in content["provides"].items():
        if kind not in KINDS:
            close = get_close_matches(str(kind), KINDS, n=1)
            return faulty(f"{CARD}: unknown kind {kind!r}" + (f", did you mean {close[0]}?" if close else ""))
        if not isinstance(entries, dict):
            return faulty(f"{CARD}: `{kind}` is not a mapping of names")
        for name, entry in entries.items():
            if not isinstance(entry, dict) or not isinstance(entry.get("summary"), str):
                return faulty(f"{CARD}: {KINDS[kind]} {name!r} has no summary")
            details = {k: v for k, v in entry.items() if k not in ("summary", "params")}
            params = entry.get("params", {"type": "object", "additionalProperties": False})
            offers.append(
                Offer(kind, str(name), entry["summary"], params, details, plugin, distribution, version)
            )
    return evolve(card, api=api, summary=str(content.get("summary", "")), offers=tuple(offers))


def discover() -> Catalog:
    """Read the cards of all installed plugins; a broken plugin is listed with its fault."""
    cards = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        distribution = point.dist.name if point.dist is not None else "unknown"
        version = point.dist.version if point.dist is not None else "unknown"
        top = point.module.partition(".")[0]
        bare = Card(point.name, point.value, distribution, version)
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            cards.append(evolve(bare, fault=f"its package {top!r} cannot be found"))
            continue
        path = Path(next(iter(spec.submodule_search_locations))) / CARD
        try:
            data = path.read_bytes()
        except OSError:
            cards.append(evolve(bare, fault=f"its package {top!r} holds no {CARD}"))
            continue
        cards.append(
            parse_card(
                data,
                plugin=bare.plugin,
                module=bare.module,
                distribution=distribution,
                version=version,
            )
        )
    return Catalog(tuple(cards))
