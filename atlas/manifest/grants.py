"""What a step's parameters ask of the host besides a target: network, variables, files of the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from atlas.catalog import Catalog, Offer
from atlas.manifest.structure import annotated

__all__ = ["granted_files", "granted_variables", "wants_network"]

Step = Mapping[str, Any]


def wants_network(step: Step, catalog: Catalog) -> bool:
    """Return whether the step's instrument, or an offer that its parameters name, needs the network."""
    return any(offer.details.get("needs", {}).get("network") for offer, _ in _settings(step, catalog))


def granted_variables(step: Step, catalog: Catalog) -> tuple[str, ...]:
    """Return the variables of the environment that parameters name (`x-atlas-variable: true`), sorted."""
    return tuple(sorted({name for name in _values(step, catalog, "x-atlas-variable")}))


def granted_files(step: Step, catalog: Catalog, sealed: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the sealed files, or all files of folders, that parameters name (`x-atlas-path: inside`)."""
    named = [PurePosixPath(value) for value in _values(step, catalog, "x-atlas-path", only="inside")]
    return tuple(sorted(path for path in sealed if any(PurePosixPath(path).is_relative_to(n) for n in named)))


def _values(step: Step, catalog: Catalog, keyword: str, *, only: Any = True) -> Iterator[str]:
    for offer, params in _settings(step, catalog):
        for _, value, annotation in annotated(offer.params, params, keyword):
            if isinstance(value, str) and annotation == only:
                yield value


def _settings(step: Step, catalog: Catalog) -> Iterator[tuple[Offer, Mapping[str, Any]]]:
    """Yield the instrument with its parameters, then each offer that they name with its own."""
    pending = [(catalog.find("instruments", step["use"]), step["params"])]
    while pending:
        offer, params = pending.pop()
        yield offer, params
        named = {
            at: catalog.find(kind, value)
            for at, value, kind in annotated(offer.params, params, "x-atlas-kind")
            if isinstance(value, str)
        }
        own = {
            (*at[:-1], sibling): value
            for at, value, sibling in annotated(offer.params, params, "x-atlas-params-of")
        }
        pending += [(other, own.get(at, {})) for at, other in named.items()]
