"""The plugin host: imports exactly the plugins that a run names, and says who is to blame.

pluggy checks hook implementations against their specifications; discovery is the catalog's, so that
neither listing nor planning imports a plugin.
"""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType
from typing import Any

import pluggy

from atlas import hookspecs
from atlas.catalog import KINDS, Card, Catalog, Offer
from atlas.errors import AtlasError, PluginFault

__all__ = ["DeprecatedHook", "Host"]


class DeprecatedHook(FutureWarning):
    """A plugin implements a hook that will go; the message says whose, which, and what to do instead."""


class Host:
    """Loads plugins of a catalog on first use and hands out what they offer.

    Args:
        catalog: What is installed.
        specifications: The hooks that plugins may implement. One that will go says so with
            `hookspec(warn_on_impl=DeprecatedHook(...))`, since when, until when, and what replaces it.
    """

    def __init__(self, catalog: Catalog, specifications: ModuleType = hookspecs) -> None:
        self.catalog = catalog
        self._manager = pluggy.PluginManager("atlas")
        self._manager.add_hookspecs(specifications)

    def open(self, plugin: str) -> None:
        """Import a plugin and check its hooks, as the first use of it does.

        Raises:
            PluginFault: It cannot be imported, or a hook does not fit.
        """
        self._import(self.catalog.card(plugin))

    def load(self, kind: str, name: str) -> Any:
        """Return the object that a plugin offers under this name.

        Raises:
            PluginFault: The plugin cannot be imported, misspells a hook, fails in it, or does not
                deliver what its card promises. The cause is chained.
            BadInput: No plugin offers it.
        """
        offer = self.catalog.find(kind, name)
        plugin = self._import(self.catalog.card(offer.plugin))
        implementation = getattr(plugin, f"atlas_{kind}", None)
        if implementation is None:
            raise PluginFault(
                f"the card offers the {KINDS[kind]} {name!r}, but there is no hook atlas_{kind}",
                who=offer.who,
            )
        try:
            offered = implementation()
            return offered[name]
        except KeyError as error:
            raise PluginFault(
                f"the card offers the {KINDS[kind]} {name!r}, but atlas_{kind} does not", who=offer.who
            ) from error
        except AtlasError:
            raise
        except Exception as error:
            raise PluginFault(
                f"atlas_{kind} failed: {type(error).__name__}: {error}", who=offer.who
            ) from error

    def schemas(self, offer: Offer) -> dict[str, Any]:
        """Return the table schemas of the plugin behind an offer, keyed `name/version`."""
        plugin = self._import(self.catalog.card(offer.plugin))
        hook = getattr(plugin, "atlas_schemas", None)
        return dict(hook()) if hook is not None else {}

    def _import(self, card: Card) -> Any:
        registered = self._manager.get_plugin(card.plugin)
        if registered is not None:
            return registered
        if card.fault is not None:
            raise PluginFault(card.fault, who=card.who)
        try:
            module = importlib.import_module(card.module)
        except AtlasError:
            raise
        except Exception as error:
            raise PluginFault(
                f"the plugin cannot be imported: {type(error).__name__}: {error}",
                who=card.who,
                fix=f"pip install --force-reinstall {card.distribution}, or uninstall it",
            ) from error
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                self._manager.register(module, name=card.plugin)
                self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            self._manager.unregister(module)
            raise PluginFault(f"a hook does not fit: {error}", who=card.who) from error
        for warning in told:
            if issubclass(warning.category, DeprecatedHook):
                warnings.warn(f"{card.who}: {warning.message}", DeprecatedHook, stacklevel=2)
        return module
