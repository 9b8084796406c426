"""One step of a run: what its process is given, and how its results are sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from atlas.catalog import Offer
from atlas.contracts import Progress
from atlas.errors import AtlasError, BadInput
from atlas.governance import GovernancePolicy
from atlas.host import Host
from atlas.manifest.grants import granted_files, granted_variables, wants_network
from atlas.manifest.targets import Member, members, named_targets
from atlas.randomness import derive_seed
from atlas.record import GateState, RunView, canonical_json
from atlas.run.journal import Journal
from atlas.run.kept import kept_key, sweep
from atlas.run.messages import FetchRequest, StepRequest, StepResult, StepWaiting, TargetRequest
from atlas.run.results import deposits
from atlas.run.steps import run_fetch, run_inline, run_step
from atlas.run.stimulus import decode, divide
from atlas.run.store import Deposit, Store

if TYPE_CHECKING:
    from atlas.contracts import Slice

__all__ = ["Stepper", "effective_seed", "resolve_sees"]

Step = Mapping[str, Any]


def effective_seed(view: RunView, policy: GovernancePolicy | None) -> int:
    """Return the run's seed: as declared, or bound to the journal head after the binding gate.

    A bound seed cannot be known before the Read that it is bound to is sealed; `seed_policy: bound`
    is the default of governed runs.
    """
    seed = int(view.manifest["seed"])
    if policy is None or view.manifest["seed_policy"] != "bound":
        return seed
    for gate in policy.gates():
        state = view.gates.get(gate.id)
        if gate.binds_seed and state is not None and state.answered is not None:
            return derive_seed(seed, view.head_after(state.answered).sha256)
    return seed


def _read_paths(state: GateState) -> list[str]:
    events = [state.answered, *state.amendments]
    return [str(event.data["path"]) for event in events if event is not None]


def resolve_sees(view: RunView, step: Step) -> tuple[str, ...]:
    """Return the sealed paths that a step's `sees` names, sorted.

    Raises:
        BadInput: A named result does not exist yet.
    """
    paths: list[str] = []
    for reference in step.get("sees") or ():
        source = reference["from"]
        state = view.gates.get(source)
        if state is not None:
            found = _read_paths(state)
        else:
            owner, _, part = source.partition(".")
            prefix = f"raw/{owner}/"
            if part == "raw":
                found = [p for p in view.artifacts if p.startswith(prefix)]
            elif part == "answer":
                found = [p for p in view.artifacts if p == f"{prefix}answer.md"]
            else:
                found = [
                    p for p in view.artifacts if p in (f"{prefix}{part}.csv", f"{prefix}{part}.schema.json")
                ]
        if not found:
            raise BadInput(f"there is nothing sealed under {source!r}", where=f"steps.{step['id']}.sees")
        paths += found
    return tuple(sorted(set(paths)))


class Stepper:
    """Runs the steps of one run whose journal is open."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        host: Host,
        policy: GovernancePolicy | None,
        progress: Progress,
        seeds: Mapping[str, int],
    ) -> None:
        self.journal = journal
        self.store = store
        self.host = host
        self.policy = policy
        self.progress = progress
        self.seeds = seeds
        self.pins: Mapping[str, Any] = json.loads(journal.view().read("environment/plugins.json"))

    def fetch_targets(self, step: Step) -> None:
        """Bring what a step opens to this machine, each once, and journal what it is opened with."""
        instrument = self.host.catalog.find("instruments", step["use"])
        for name in (*filter(None, [step.get("target")]), *named_targets(instrument, step["params"])):
            entry = self.journal.view().manifest["targets"][name]
            offer = self.host.catalog.find("targets", entry["use"])
            for number, member in enumerate(members(entry, offer), start=1):
                if (name, member.label) not in self._fetched():
                    self._fetch(name, offer, member, number)

    def _fetched(self) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """Return what targets are opened with, by name and label."""
        return {
            (e.data["target"], e.data.get("member", "")): json.loads(e.data["params"])
            for e in self.journal.view().of("target-fetched")
        }

    def _fetch(self, name: str, offer: Offer, member: Member, number: int) -> None:
        title = f"{name} {member.label}".rstrip()
        stdout, stderr = self._logs(f"fetch-{name}", number)
        request = FetchRequest(
            name=title,
            target=TargetRequest(offer.name, member.params),
            who=offer.who,
            cards=self._cards(),
            folder=str(self.journal.root.resolve()),
        )
        result = run_fetch(request, stdout=stdout, stderr=stderr, on_message=lambda m: self._hear(title, m))
        # Parameters may hold floats, which a journal does not: they travel as one canonical text.
        event = {"target": name, "params": canonical_json(dict(result.params)).decode()}
        self.journal.append("target-fetched", event | ({"member": member.label} if member.label else {}))

    def run(self, step: Step) -> bool:
        """Run a step; return False if it now waits for a person.

        Raises:
            AtlasError: It ended without a validated result; journaled as `step-failed`.
        """
        view = self.journal.view()
        name = step["id"]
        attempt = 1 + sum(e.data["step"] == name for e in view.of("step-started"))
        lent = [*resolve_sees(view, step), *granted_files(step, self.host.catalog, view.artifacts)]
        lent += [path for path in (f"answers/{name}.md",) if path in view.artifacts]
        seed = self.seeds.get(name)
        if seed is None:
            seed = derive_seed(effective_seed(view, self.policy), f"step {name}")
        self.journal.append(
            "step-started",
            {
                "step": name,
                "attempt": attempt,
                "seed": str(seed),
                "inputs": {path: view.artifacts[path].sha256 for path in lent},
                "isolation": step["isolation"],
                "threads": step["threads"],
            },
        )
        work = self.store.staging(f"{name}.{attempt}")
        logs = self._logs(name, attempt)
        try:
            outcome = self._execute(step, self._request(view, step, seed, lent, work), logs)
        except AtlasError as error:
            self.journal.append(
                "step-failed",
                {
                    "step": name,
                    "attempt": attempt,
                    "reason": type(error).__name__,
                    "message": str(error),
                },
            )
            raise
        if isinstance(outcome, StepWaiting):
            self._wait(name, outcome, work / "out")
            return False
        self._finish(step, attempt, outcome, work / "out", logs)
        return True

    def _execute(self, step: Step, request: StepRequest, logs: tuple[Path, Path]) -> StepResult | StepWaiting:
        def hear(message: Mapping[str, Any]) -> None:
            self._hear(request.step, message)

        if step["isolation"] == "inline":
            return run_inline(request, on_message=hear, catalog=self.host.catalog)
        return run_step(
            request, timeout_s=step.get("timeout_s"), stdout=logs[0], stderr=logs[1], on_message=hear
        )

    def _request(self, view: RunView, step: Step, seed: int, lent: list[str], work: Path) -> StepRequest:
        offer: Offer = self.host.catalog.find("instruments", step["use"])
        folders = {name: work / name for name in ("out", "scratch", "inputs")}
        for folder in folders.values():
            folder.mkdir()
        needs = offer.details.get("needs", {})
        entry = view.manifest.get("stimulus") or {}
        request = StepRequest(
            step=step["id"],
            instrument=offer.name,
            who=offer.who,
            cards=self._cards(),
            params=step["params"],
            slices=self._slices(view) if entry and needs.get("stimulus") else (),
            max_tokens=entry.get("max_tokens"),
            seed=seed,
            threads=step["threads"],
            out=str(folders["out"].resolve()),
            scratch=str(folders["scratch"].resolve()),
            keep="",
            inputs=self.store.lend(lent, folders["inputs"]),
            target=self._members(view, step.get("target")).get(""),
            series=tuple(
                (label, member) for label, member in self._members(view, step.get("target")).items() if label
            ),
            named_targets={
                name: self._members(view, name)[""] for name in named_targets(offer, step["params"])
            },
            offers=tuple((kind, name) for kind, name in self.pins["offers"] if kind != "instruments"),
            network=bool(step.get("network")) and wants_network(step, self.host.catalog),
            environment=needs.get("environment", {}),
            variables=granted_variables(step, self.host.catalog),
        )
        digests = {path: view.artifacts[path].sha256 for path in lent}
        key = kept_key(request, digests, self.pins["plugins"])
        return evolve(request, keep=str(self.store.keep(step["id"], key).resolve()))

    def _slices(self, view: RunView) -> tuple[Slice, ...]:
        return divide(decode(view.read("stimulus/items.jsonl")), view.manifest["stimulus"].get("each"))

    def _members(self, view: RunView, name: str | None) -> dict[str, TargetRequest]:
        """Return a target's members by label, in order; the label of a plain one is empty."""
        if name is None:
            return {}
        entry = view.manifest["targets"][name]
        labels = [m.label for m in members(entry, self.host.catalog.find("targets", entry["use"]))]
        fetched = self._fetched()
        return {label: TargetRequest(entry["use"], fetched[name, label]) for label in labels}

    def _cards(self) -> dict[str, str]:
        return {name: pin["card_sha256"] for name, pin in self.pins["plugins"].items()}

    def _hear(self, step: str, message: Mapping[str, Any]) -> None:
        if message["kind"] == "progress":
            self.progress(
                message["message"], done=message["done"], total=message["total"], **message["figures"]
            )
        elif message["kind"] == "check":
            self.journal.append(
                "step-checked",
                {
                    "step": step,
                    "name": message["name"],
                    "passed": message["passed"],
                    "detail": message["detail"],
                },
            )

    def _wait(self, step: str, waiting: StepWaiting, out: Path) -> None:
        folder = f"handouts/{step}"
        handed = [
            Deposit(f"{folder}/{f.name.removeprefix('handout/')}", out / f.name, f.role, f.sha256)
            for f in waiting.files
        ]
        self.store.seal_together("step-waiting", {"step": step, "ask": waiting.ask, "folder": folder}, handed)

    def _finish(
        self, step: Step, attempt: int, result: StepResult, out: Path, logs: tuple[Path, Path]
    ) -> None:
        name = step["id"]
        sealed = deposits(result.files, out, f"raw/{name}")
        facts = canonical_json(
            {**result.environment, **{f"isolation.{k}": v for k, v in result.isolation.items()}}
        )
        sealed.append(Deposit(f"environment/{name}.json", facts, "environment"))
        if step["isolation"] == "process":
            sealed += [Deposit(log.relative_to(self.journal.root).as_posix(), log, "log") for log in logs]
        self.store.seal_together(
            "step-finished",
            {
                "step": name,
                "attempt": attempt,
                "seconds": f"{result.seconds:.3f}",
                "isolation": dict(result.isolation),
            },
            sealed,
        )
        sweep(self.journal.root, self.journal.view())

    def _logs(self, name: str, attempt: int) -> tuple[Path, Path]:
        folder = self.journal.root / "logs"
        return folder / f"{name}.{attempt}.stdout.txt", folder / f"{name}.{attempt}.stderr.txt"
