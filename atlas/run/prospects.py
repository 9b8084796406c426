"""What steps will take, asked of their instruments before anything runs.

A card may name, as `estimate: package.module:name`, a function from a `Prospect` to lines of text. It is
imported when a plan is asked for, and only then; what goes wrong in it is one of the lines, since a plan is
no worse for lacking an estimate.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas.catalog import Offer
from atlas.contracts import Estimate, Prospect, Slice, TargetOutline
from atlas.host import Host
from atlas.manifest.targets import members
from atlas.run.stimulus import divide, gather

__all__ = ["estimates"]


def estimates(
    host: Host, data: Mapping[str, Any], *, folder: Path, runs: Path, slices: tuple[Slice, ...] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return lines by step, for the steps whose instrument offers an estimate.

    Args:
        host: Loads the plugins that are asked.
        data: A resolved manifest's values.
        folder: The manifest's folder, from which stimuli are gathered.
        runs: Where the run will lie.
        slices: The stimulus, where it was gathered already.
    """
    found = {}
    for step in data["steps"]:
        offer = host.catalog.find("instruments", step["use"])
        if "estimate" in offer.details:
            try:
                if slices is None:
                    slices = _slices(host, data, folder)
                found[step["id"]] = tuple(_estimate(host, data, step, offer, slices, runs))
            except Exception as error:  # of any plugin: it is shown, and the plan stands
                text = " ".join(str(error).split())
                found[step["id"]] = (f"no estimate: {type(error).__name__}: {text}",)
    return found


def _estimate(
    host: Host,
    data: Mapping[str, Any],
    step: Mapping[str, Any],
    offer: Offer,
    slices: tuple[Slice, ...],
    runs: Path,
) -> list[str]:
    module, _, name = str(offer.details["estimate"]).partition(":")
    estimate: Estimate = getattr(importlib.import_module(module), name)
    outline, lines = None, []
    if step.get("target"):
        entry = data["targets"][step["target"]]
        outline, count = _outline(host, entry)
        lines += [f"of the first of {count} targets:"] if count > 1 else []
    prospect = Prospect(
        params=step["params"],
        slices=slices,
        max_tokens=(data.get("stimulus") or {}).get("max_tokens"),
        outline=outline,
        threads=step["threads"],
        folder=runs,
    )
    return lines + [line for text in estimate(prospect) for line in text.splitlines()]


def _outline(host: Host, entry: Mapping[str, Any]) -> tuple[TargetOutline | None, int]:
    """Return the outline of an entry's first target, and how many it stands for."""
    found = members(entry, host.catalog.find("targets", entry["use"]))
    make = getattr(host.load("targets", entry["use"]), "outline", None)
    return (None if make is None else make(found[0].params)), len(found)


def _slices(host: Host, data: Mapping[str, Any], folder: Path) -> tuple[Slice, ...]:
    entry = data.get("stimulus")
    return divide(gather(host, entry, folder), entry.get("each")) if entry else ()
