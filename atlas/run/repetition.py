"""A recorded run, measured again: same stimulus, parameters and seeds, no gates, a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas import __version__
from atlas.contracts import Progress
from atlas.errors import PluginFault
from atlas.host import Host
from atlas.manifest import dump
from atlas.record import RunView
from atlas.run.identity import RUN_ID, allocate
from atlas.run.journal import Journal
from atlas.run.preparation import pin_plugins
from atlas.run.stages import advance
from atlas.run.store import Deposit, Store

__all__ = ["repeat"]


def repeat(recorded: RunView, runs: Path, host: Host, progress: Progress) -> RunView:
    """Measure again and return the finished run.

    The sealed stimulus is used as it is, and each step gets the seed that its record states, so that
    nothing depends on the governance that the first run was under.

    Raises:
        PluginFault: A plugin of the record is not installed here.
        InstrumentFailed: A step failed.
    """
    manifest = _manifest(recorded, host)
    code, lineage = recorded.run_id.split("-")[:2]
    if not RUN_ID.fullmatch(recorded.run_id):
        raise PluginFault(f"{recorded.run_id!r} is no run id")
    root = allocate(runs, code, lineage)
    steps = {step["id"] for step in manifest["steps"]}
    seeds = {e.data["step"]: int(e.data["seed"]) for e in recorded.of("step-started")}
    offers = _offers(recorded, host)
    with Journal.create(root) as journal:
        journal.append(
            "created",
            {"run_id": root.name, "atlas": __version__, "governed": False, "repeats": recorded.run_id},
        )
        store = Store.open(journal)
        deposits = [
            Deposit("manifest.resolved.yaml", dump(manifest), "resolved-manifest"),
            Deposit("environment/plugins.json", pin_plugins(host, offers, ()), "environment"),
        ]
        deposits += [
            Deposit(path, recorded.read(path), "stimulus")
            for path in recorded.artifacts
            if path.startswith("stimulus/")
        ]
        store.seal_together("prepared", {}, deposits)
        journal.append("stage-done", {"stage": "prepare"})
        return advance(
            journal, store, host, None, progress, seeds={k: v for k, v in seeds.items() if k in steps}
        )


def _manifest(recorded: RunView, host: Host) -> dict[str, Any]:
    """Return the recorded manifest with its measuring steps alone, ungoverned."""
    data: dict[str, Any] = dict(recorded.manifest)
    data["governance"] = "none"
    data["seed_policy"] = "declared"
    data["declare"] = []
    data["steps"] = [
        s for s in data["steps"] if host.catalog.find("instruments", s["use"]).phase == "measure"
    ]
    return data


def _offers(recorded: RunView, host: Host) -> Mapping[tuple[str, str], Any]:
    pins = json.loads(recorded.read("environment/plugins.json"))
    wanted = [
        (kind, name) for kind, name in pins["offers"] if kind not in ("governance", "synthesis_adapters")
    ]
    return {(kind, name): host.catalog.find(kind, name) for kind, name in wanted}
