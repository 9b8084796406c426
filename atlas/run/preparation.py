"""The start of a run: everything that needs no model is decided, written down and sealed.

Nothing that can be refused here is refused later: names, admission, parameters, stimulus, linked
records and the policy's view of the plan are all settled before a run id is taken.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from atlas import __version__
from atlas.catalog import Offer
from atlas.contracts import StimulusItem
from atlas.errors import BadInput
from atlas.governance import GovernancePolicy, Problem
from atlas.host import Host
from atlas.manifest import Resolved, dump, resolve
from atlas.record import JOURNAL, RunView, canonical_json, open_record, spelled
from atlas.registry import Registry
from atlas.run.forecasts import forecasts
from atlas.run.identity import allocate, find_run
from atlas.run.inventory import record_environment
from atlas.run.journal import Journal
from atlas.run.stages import check_sealed, load_policy
from atlas.run.stimulus import divide, encode, gather
from atlas.run.store import Deposit, Store
from atlas.tables import TableSchema, to_csv

__all__ = ["gather_resolved", "pin_plugins", "prepare", "record_by_hand"]


@frozen
class _Decided:
    """A run that may start."""

    resolved: Resolved
    items: tuple[StimulusItem, ...]
    records: tuple[RunView, ...]
    policy: GovernancePolicy | None
    notes: tuple[str, ...]


def prepare(host: Host, runs: Path, manifest: Path, overrides: tuple[str, ...]) -> Path:
    """Decide and seal everything up to the first gate, and return the run folder.

    Raises:
        BadInput: The manifest, the stimulus, a linked record or the policy forbids the run. Nothing
            was written then.
        PluginFault: A plugin that it names is missing, broken or not admitted.
    """
    decided = _decide(host, runs, manifest, overrides)
    data = decided.resolved.data
    root = allocate(runs, str(decided.resolved.primary.details.get("code", "RUN")), data["lineage"])
    with Journal.create(root) as journal:
        journal.append(
            "created",
            {"run_id": root.name, "atlas": __version__, "governed": decided.policy is not None},
        )
        store = Store.open(journal)
        store.seal_together("prepared", {}, _deposits(host, decided))
        for record in decided.records:
            _link(store, record)
        if decided.policy is not None and decided.items:
            digest = journal.view().artifacts["stimulus/items.jsonl"].sha256
            journal.append(
                "inspected",
                {"what": "stimulus", "inputs": {"stimulus/items.jsonl": digest}, "problems": []},
            )
        resolved = journal.view().artifacts["manifest.resolved.yaml"].sha256
        journal.append("declared", {"hypotheses": spelled(data.get("declare") or []), "resolved": resolved})
        journal.append("stage-done", {"stage": "prepare"})
    return root


def _decide(host: Host, runs: Path, manifest: Path, overrides: tuple[str, ...]) -> _Decided:
    registry = Registry.find(manifest.resolve().parent)
    resolved = resolve(manifest, catalog=host.catalog, registry=registry, overrides=overrides)
    policy = load_policy(host, resolved.data)
    notes = list(resolved.notes)
    if policy is not None:
        problems = policy.review_plan(resolved.data)
        _refuse((p for p in problems if not p.overridable), "the policy does not allow this manifest")
        notes += [p.message for p in problems]
    items = gather_resolved(host, resolved)
    notes += _foreseen(host, resolved, items)
    records: tuple[RunView, ...] = ()
    if policy is not None:
        _refuse(
            policy.inspect({f"stimulus item {item.id}": item.text for item in items}),
            "the stimulus is not clean",
        )
        records = tuple(_record(runs, run_id) for run_id in policy.records())
    return _Decided(resolved, items, records, policy, tuple(notes))


def gather_resolved(host: Host, resolved: Resolved) -> tuple[StimulusItem, ...]:
    """Gather the stimulus from copies of its files, laid out as the run folder will hold them."""
    entry = resolved.data.get("stimulus")
    if not entry:
        return ()
    with tempfile.TemporaryDirectory(prefix="atlas-stimulus-") as folder:
        for relative, path in resolved.inside_files.items():
            copy = Path(folder, "stimulus", "files", relative)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        return gather(host, entry, Path(folder))


def _foreseen(host: Host, resolved: Resolved, items: tuple[StimulusItem, ...]) -> list[str]:
    """Return which declared hypotheses cannot be decided, after asking for what judging them needs."""
    if not resolved.data.get("declare"):
        return []
    if importlib.util.find_spec("numpy") is None:
        raise BadInput(
            "hypotheses are tested with numpy, which is not installed",
            where="declare",
            fix='pip install "atlas-host[hypotheses]"',
        )
    slices = divide(items, (resolved.stimulus or {}).get("each"))
    found = forecasts(resolved.data, host.catalog, slices)
    return [str(forecast) for forecast in found if forecast.obstacle is not None]


def _refuse(problems: Iterable[Problem], what: str) -> None:
    listed = [f"  - {problem}" for problem in problems]
    if listed:
        raise BadInput("\n".join([f"{what}:", *listed]))


def _record(runs: Path, run_id: str) -> RunView:
    """Return a behavioural record, checked whole."""
    try:
        record = open_record(find_run(runs, run_id))
    except BadInput as error:
        raise BadInput(
            f"the behavioural record {run_id!r} is not in {runs}",
            where="governance",
            fix="import it (atlas bsa import), or leave it out: the run is then Tier C",
        ) from error
    if record.state != "done":
        raise BadInput(f"the behavioural record {run_id} is {record.state}, not done", where="governance")
    check_sealed(record)
    return record


def _deposits(host: Host, decided: _Decided) -> list[Deposit]:
    resolved = decided.resolved
    deposits = [
        Deposit("manifest.yaml", resolved.source, "manifest"),
        Deposit("manifest.resolved.yaml", dump(resolved.data), "resolved-manifest"),
        Deposit("environment/plugins.json", pin_plugins(host, resolved.offers, decided.notes), "environment"),
    ]
    deposits += [
        Deposit(f"environment/{name}", content, "environment")
        for name, content in record_environment().items()
    ]
    if decided.items:
        deposits.append(Deposit("stimulus/items.jsonl", encode(decided.items), "stimulus"))
    deposits += [
        Deposit(f"stimulus/files/{relative}", path, "stimulus")
        for relative, path in sorted(resolved.inside_files.items())
    ]
    return deposits


def pin_plugins(host: Host, offers: Mapping[tuple[str, str], Offer], notes: Sequence[str]) -> bytes:
    """Write down which plugins, by version and card, a run is prepared with, and what it names."""
    cards = {offer.plugin: host.catalog.card(offer.plugin) for offer in offers.values()}
    return canonical_json(
        {
            "plugins": {
                name: {
                    "distribution": card.distribution,
                    "version": card.version,
                    "card_sha256": card.sha256,
                }
                for name, card in cards.items()
            },
            "offers": sorted([kind, name] for kind, name in offers),
            "instruments": {
                offer.name: {
                    "plugin": offer.plugin,
                    "summary": offer.summary,
                    "claims": list(offer.details.get("claims", ())),
                }
                for offer in offers.values()
                if offer.kind == "instruments"
            },
            "notes": list(notes),
        }
    )


def _link(store: Store, record: RunView) -> None:
    """Copy a record's journal and sealed files into the run, so that a bundle carries what it hangs on."""
    folder = f"records/{record.run_id}"
    finished = record.last("finished")
    store.seal_together(
        "record-linked",
        {
            "record": record.run_id,
            "head": str(record.head),
            "tier": finished.data["tier"] if finished is not None else "C",
            "folder": folder,
        },
        [
            Deposit(f"{folder}/{path}", record.root / path, "linked-record")
            for path in (JOURNAL, *record.artifacts)
        ],
    )


def record_by_hand(
    runs: Path,
    code: str,
    lineage: str,
    *,
    tables: Mapping[str, tuple[TableSchema, Iterable[Mapping[str, Any]]]],
    files: Mapping[str, bytes],
    facts: Mapping[str, str],
) -> str:
    """Make a finished run folder out of material collected by hand, and return its id.

    Args:
        runs: The runs folder.
        code: Instrument code of the id, `BSA`.
        lineage: 2 to 4 letters.
        tables: Table name -> schema and rows; sealed under `raw/<code>/`.
        files: Name -> bytes, sealed beside the tables: the evidence as it was delivered.
        facts: Facts of the record, sealed as `facts.json`.
    """
    step = code.lower()
    deposits = [Deposit(f"raw/{step}/facts.json", canonical_json(dict(facts)), "facts")]
    for name, (schema, rows) in tables.items():
        deposits.append(Deposit(f"raw/{step}/{name}.csv", to_csv(schema, rows), "table"))
        descriptor = canonical_json(schema.descriptor())
        deposits.append(Deposit(f"raw/{step}/{name}.schema.json", descriptor, "schema"))
    deposits += [Deposit(f"raw/{step}/{name}", content, "attachment") for name, content in files.items()]
    root = allocate(runs, code, lineage)
    with Journal.create(root) as journal:
        journal.append("created", {"run_id": root.name, "atlas": __version__, "governed": False})
        Store.open(journal).seal_together("step-finished", {"step": step, "attempt": 1}, deposits)
        journal.append("finished", {"tier": "C", "conditions": []})
    return root.name
