"""The runs folder as commands use it: create, find, advance, answer and grade runs."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.catalog import Catalog, discover
from atlas.errors import BadInput, PluginFault
from atlas.governance import Condition, GovernancePolicy, TierReport
from atlas.host import Host
from atlas.record import RunView, open_record
from atlas.run import gating
from atlas.run.identity import find_run
from atlas.run.journal import Journal
from atlas.run.kept import sweep
from atlas.run.stages import advance, load_policy, tier_of
from atlas.run.store import Store

if TYPE_CHECKING:
    from atlas.contracts import Progress
    from atlas.manifest import PlanLine, Resolved
    from atlas.run.forecasts import Forecast
    from atlas.tables import TableSchema

__all__ = ["LocalWorkspace"]


class LocalWorkspace:
    """Run folders below one folder of this machine; implements `atlas.contracts.Workspace`."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._host: Host | None = None

    @property
    def runs(self) -> Path:
        """The folder that holds the run folders."""
        return self._runs

    @property
    def host(self) -> Host:
        """The plugin host of this process."""
        if self._host is None:
            self._host = Host(discover())
        return self._host

    @property
    def catalog(self) -> Catalog:
        """What is installed."""
        return self.host.catalog

    # Looking

    def find(self, run: str) -> Path:
        """Return a run's folder, by id or path."""
        return find_run(self._runs, run)

    def view(self, run: str) -> RunView:
        """Return a run by id or path."""
        return open_record(self.find(run))

    def policy(self, view: RunView) -> GovernancePolicy | None:
        """Return the policy that holds a run."""
        return load_policy(self.host, view.manifest)

    def tier(self, view: RunView) -> TierReport:
        """Compute a run's tier from its record."""
        return tier_of(view, self.policy(view))

    def criteria(self, view: RunView) -> tuple[Condition, ...]:
        """Evaluate the success criteria of a run's policy."""
        policy = self.policy(view)
        return () if policy is None else policy.criteria(view)

    def operator(self, root: Path) -> str:
        """Return the operator that a run's manifest names, or nothing."""
        governance = open_record(root).manifest.get("governance", "none")
        return "" if governance == "none" else str(governance.get("operator") or "")

    def template(self, root: Path, gate_id: str) -> str:
        """Return the document that a gate's answer starts from.

        Raises:
            BadInput: It is not that gate's turn.
        """
        view = open_record(root)
        return gating.turn(view, self.policy(view), gate_id).template

    def notes(self, root: Path) -> tuple[str, ...]:
        """Return what the user should know of a run that was prepared, such as caps on its tier."""
        return tuple(json.loads(open_record(root).read("environment/plugins.json"))["notes"])

    def draft(self, root: Path, name: str) -> Path:
        """Return where an answer is drafted; drafts are no part of the record."""
        return root / "drafts" / f"{name}.md"

    def next_command(self, view: RunView) -> str:
        """Return what a person types next."""
        gate = gating.reachable(view, self.policy(view))
        if gate is not None and view.state == "waiting":
            return str(gating.ask(view, gate).fix)
        return f"atlas resume {view.run_id}"

    # Planning and running

    def expand(self, manifest: Path, overrides: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """Return (label, overrides) for each run of a manifest's matrix; one without a matrix."""
        from atlas.manifest import expand

        return expand(manifest, tuple(overrides))

    def _resolve(self, manifest: Path, overrides: Sequence[str]) -> Resolved:
        from atlas.manifest import resolve
        from atlas.registry import Registry

        registry = Registry.find(manifest.resolve().parent)
        return resolve(manifest, catalog=self.catalog, registry=registry, overrides=tuple(overrides))

    def plan_manifest(self, manifest: Path, overrides: Sequence[str]) -> tuple[PlanLine, ...]:
        """Return the plan of a manifest that has not run."""
        from atlas.manifest import plan

        resolved = self._resolve(manifest, overrides)
        return plan(resolved.data, self.catalog, load_policy(self.host, resolved.data), None)

    def plan(self, view: RunView) -> tuple[PlanLine, ...]:
        """Return what is left of a run, and why."""
        from atlas.manifest import plan

        return plan(view.manifest, self.catalog, self.policy(view), view)

    def estimate_manifest(self, manifest: Path, overrides: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Return, by step, what instruments that can tell expect of a manifest that has not run."""
        from atlas.run.prospects import estimates

        folder, runs = manifest.resolve().parent, self._runs.resolve()
        return estimates(self.host, self._resolve(manifest, overrides).data, folder=folder, runs=runs)

    def estimate(self, view: RunView) -> Mapping[str, tuple[str, ...]]:
        """Return, by step, what instruments that can tell expect of the steps that a run has left."""
        from atlas.run.prospects import estimates
        from atlas.run.stimulus import decode, divide

        left = [line.id for line in self.plan(view) if line.kind == "step" and line.action != "DONE"]
        data = {**view.manifest, "steps": [s for s in view.manifest["steps"] if s["id"] in left]}
        entry = data.get("stimulus")
        slices = divide(decode(view.read("stimulus/items.jsonl")), entry.get("each")) if entry else ()
        root = self.find(view.run_id)
        return estimates(self.host, data, folder=root, runs=root, slices=slices)

    def forecast_manifest(self, manifest: Path, overrides: Sequence[str]) -> tuple[Forecast, ...]:
        """Return what is known of the hypotheses of a manifest that has not run; gathers its stimulus."""
        from atlas.run.forecasts import forecasts
        from atlas.run.preparation import gather_resolved
        from atlas.run.stimulus import divide

        resolved = self._resolve(manifest, overrides)
        if not resolved.data.get("declare"):
            return ()
        slices = divide(gather_resolved(self.host, resolved), (resolved.stimulus or {}).get("each"))
        return forecasts(resolved.data, self.catalog, slices)

    def forecast(self, view: RunView) -> tuple[Forecast, ...]:
        """Return what is known of the hypotheses that a run declared and has not judged."""
        from atlas.run.forecasts import forecasts
        from atlas.run.stimulus import decode, divide

        if not view.manifest.get("declare") or view.last("hypotheses-judged") is not None:
            return ()
        entry = view.manifest["stimulus"]
        slices = divide(decode(view.read("stimulus/items.jsonl")), entry.get("each"))
        return forecasts(view.manifest, self.catalog, slices)

    def create(self, manifest: Path, overrides: Sequence[str] = ()) -> Path:
        """Prepare a run and return its folder; no model is opened, no gate asked."""
        from atlas.run.preparation import prepare

        root = prepare(self.host, self._runs, manifest, tuple(overrides))
        self._register(root)
        return root

    def advance(self, root: Path, progress: Progress) -> RunView:
        """Take a run as far as it goes; see `atlas.run.stages.advance`."""
        with self._open(root) as (journal, store, policy):
            self._check_pins(journal.view())
            return advance(journal, store, self.host, policy, progress)

    def _check_pins(self, view: RunView) -> None:
        """Refuse to go on with other plugins than the run was prepared with."""
        if "environment/plugins.json" not in view.artifacts:
            return
        pins: Mapping[str, Mapping[str, str]] = json.loads(view.read("environment/plugins.json"))["plugins"]
        installed = {card.plugin: card for card in self.catalog.cards}
        for name, pin in pins.items():
            card = installed.get(name)
            found = f"{card.version}, card {card.sha256[:12]}" if card else "not installed"
            if card is None or (card.version, card.sha256) != (pin["version"], pin["card_sha256"]):
                raise PluginFault(
                    f"plugin {name!r} is not the one that {view.run_id} was prepared with: then "
                    f"{pin['version']}, card {pin['card_sha256'][:12]}; now {found}",
                    fix=f"pip install {pin['distribution']}=={pin['version']}, or start a new run",
                )

    @contextmanager
    def _open(self, root: Path) -> Iterator[tuple[Journal, Store, GovernancePolicy | None]]:
        try:
            with Journal.open(root) as journal:
                yield journal, Store.open(journal), self.policy(journal.view())
        finally:
            self._register(root)

    def _register(self, root: Path) -> None:
        """Bring the master registry up to date after a run has changed; its journal is the truth."""
        from atlas.run.ledger import refresh

        if root.resolve().parent != self._runs.resolve():
            return
        try:
            refresh(self._runs)
        except (OSError, sqlite3.Error) as error:
            logging.getLogger("atlas").warning(
                "the run is recorded, and registry.csv is not up to date: %s; atlas runs rebuild", error
            )

    # Answering

    def answer(
        self,
        run: str,
        gate: str,
        text: str | bytes,
        *,
        author: str,
        via: str,
        evidence: Path | None = None,
        override: str | None = None,
    ) -> None:
        """Seal a person's answer, bytes as they are; see `atlas.contracts.Workspace`."""
        data = text.encode("utf-8") if isinstance(text, str) else text
        with self._open(self.find(run)) as (journal, store, policy):
            gating.answer(
                journal,
                store,
                policy,
                gate,
                data,
                author=author,
                via=via,
                evidence=evidence,
                override=override,
            )

    def amend(self, root: Path, gate: str, data: bytes, *, author: str) -> str:
        """Seal an addition to a sealed Read and return its path."""
        with self._open(root) as (journal, store, policy):
            return gating.amend(journal, store, policy, gate, data, author=author)

    def skip(self, root: Path, gate: str, *, author: str, reason: str) -> None:
        """Pass a gate without an answer."""
        with self._open(root) as (journal, _, policy):
            gating.skip(journal, policy, gate, author=author, reason=reason)

    def explore(self, root: Path, hypothesis: Mapping[str, Any]) -> None:
        """Judge a hypothesis that was added later; see `atlas.run.judging.explore`."""
        from atlas.run.judging import explore

        with self._open(root) as (journal, store, policy):
            explore(journal, store, policy, hypothesis)

    def abandon(self, root: Path, *, author: str, reason: str) -> None:
        """End a run for good."""
        with self._open(root) as (journal, _, _):
            state = journal.view().state
            if state in ("done", "abandoned"):
                raise BadInput(f"{root.name} is {state} already")
            journal.append("abandoned", {"author": author, "reason": reason})
            sweep(root, journal.view())

    # Records and files

    def attach(self, run: str, path: str, data: bytes, *, role: str) -> None:
        """Seal a new file in a run folder."""
        with self._open(self.find(run)) as (_, store, _):
            store.seal_new(path, data, role=role)

    def event(self, run: str, type: str, data: Mapping[str, Any]) -> None:
        """Append a plugin's own event to a run's journal."""
        if "." not in type:
            raise PluginFault(f"{type!r} is no plugin's event; its name is <plugin>.<what>")
        with self._open(self.find(run)) as (journal, _, _):
            journal.append(type, data)

    def create_record(
        self,
        code: str,
        lineage: str,
        *,
        tables: Mapping[str, tuple[TableSchema, Iterable[Mapping[str, Any]]]],
        files: Mapping[str, bytes],
        facts: Mapping[str, str],
    ) -> str:
        """Make a finished, sealed run folder out of material collected by hand."""
        from atlas.run.preparation import record_by_hand

        run = record_by_hand(self._runs, code, lineage, tables=tables, files=files, facts=facts)
        self._register(self._runs / run)
        return run
