"""One step of a run: what its process is given, and how its results are checked and sealed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.catalog import Offer
from atlas.contracts import Progress
from atlas.errors import AtlasError, BadInput, InstrumentFailed
from atlas.governance import GovernancePolicy
from atlas.host import Host
from atlas.randomness import derive_seed
from atlas.record import GateState, RunView, canonical_json
from atlas.run.gating import answer_path
from atlas.run.journal import Journal
from atlas.run.messages import FetchRequest, StepRequest, StepResult, StepWaiting, TargetRequest
from atlas.run.process import run_child
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
                found = [p for p in view.artifacts if p in (f"{prefix}{part}.csv", f"{prefix}{part}.schema.json")]
        if not found:
            raise BadInput(f"there is nothing sealed under {source!r}", where=f"steps.{step['id']}.sees")
        paths += found
    return tuple(sorted(set(paths)))


class Stepper:
    """Runs the steps of one run whose journal is open."""

    def __init__(
        self, journal: Journal, store: Store, host: Host, policy: GovernancePolicy | None, progress: Progress
    ) -> None:
        self.journal = journal
        self.store = store
        self.host = host
        self.policy = policy
        self.progress = progress
        self.pins: Mapping[str, Any] = json.loads(journal.view().read("environment/plugins.json"))

    def fetch(self, name: str) -> None:
        """Bring a target to this machine, once, and journal what it is opened with."""
        view = self.journal.view()
        if any(e.data["target"] == name for e in view.of("target-fetched")):
            return
        entry = dict(view.manifest["targets"][name])
        offer = self.host.catalog.find("targets", entry.pop("use"))
        logs = self._logs(f"fetch-{name}", 1)
        request = FetchRequest(
            name=name,
            target=TargetRequest(offer.name, entry),
            who=offer.who,
            cards=self._cards(),
            folder=str(self.journal.root),
        )
        result = run_child(request, on_message=self._show, stdout=logs[0], stderr=logs[1])
        self.journal.append("target-fetched", {"target": name, "params": canonical_json(result.params).decode()})

    def run(self, step: Step) -> bool:
        """Run a step; return False if it now waits for a person.

        Raises:
            InstrumentFailed: It ended without a validated result; journaled as `step-failed`.
        """
        view = self.journal.view()
        offer = self.host.catalog.find("instruments", step["use"])
        attempt = 1 + sum(e.data["step"] == step["id"] for e in view.of("step-started"))
        paths = list(resolve_sees(view, step))
        answer = answer_path(view, step["id"])
        lent = [*paths, *([answer] if answer else [])]
        seed = derive_seed(effective_seed(view, self.policy), f"step {step['id']}")
        self.journal.append(
            "step-started",
            {
                "step": step["id"],
                "attempt": attempt,
                "seed": str(seed),
                "inputs": {path: view.artifacts[path].sha256 for path in lent},
                "isolation": step["isolation"],
                "threads": step["threads"],
            },
        )
        work = self.store.staging(f"{step['id']}.{attempt}")
        logs = self._logs(step["id"], attempt)
        try:
            request = self._request(view, step, offer, attempt, seed, lent, work)
            outcome = self._execute(step, request, logs)
        except InstrumentFailed as error:
            self._failed(step, attempt, error, logs)
            raise
        except AtlasError as error:
            self._failed(step, attempt, error, logs)
            raise
        finally:
            shutil.rmtree(work / "scratch", ignore_errors=True)
        if isinstance(outcome, StepWaiting):
            self._waiting(step, outcome, work / "out")
            return False
        self._finished(step, attempt, outcome, work / "out", logs)
        return True

    def _execute(self, step: Step, request: StepRequest, logs: tuple[Path, Path]) -> StepResult | StepWaiting:
        if step["isolation"] == "inline":
            from atlas.run.context import run_inline

            return run_inline(request, on_message=self._show)
        return run_child(
            request, timeout_s=step.get("timeout_s"), on_message=self._show, stdout=logs[0], stderr=logs[1]
        )

    def _request(
        self, view: RunView, step: Step, offer: Offer, attempt: int, seed: int, lent: list[str], work: Path
    ) -> StepRequest:
        folders = {name: work / name for name in ("out", "scratch", "inputs")}
        for folder in folders.values():
            folder.mkdir()
        needs = offer.details.get("needs", {})
        return StepRequest(
            step=step["id"],
            attempt=attempt,
            instrument=offer.name,
            who=offer.who,
            cards=self._cards(),
            params=step["params"],
            slices=self._slices(view) if needs.get("stimulus") else (),
            max_tokens=(view.manifest.get("stimulus") or {}).get("max_tokens"),
            seed=seed,
            threads=step["threads"],
            out=str(folders["out"]),
            scratch=str(folders["scratch"]),
            inputs=self.store.lend(lent, folders["inputs"]),
            target=self._target(view, step),
            offers=tuple((kind, name) for kind, name in self.pins["offers"] if kind != "instruments"),
            network=bool(needs.get("network")) and bool(step.get("network")),
            environment=needs.get("environment", {}),
        )

    def _slices(self, view: RunView) -> tuple[Slice, ...]:
        entry = view.manifest["stimulus"]
        return divide(decode(view.read("stimulus/items.jsonl")), entry.get("each"))

    def _target(self, view: RunView, step: Step) -> TargetRequest | None:
        name = step.get("target")
        if name is None:
            return None
        fetched = next(e for e in view.of("target-fetched") if e.data["target"] == name)
        return TargetRequest(view.manifest["targets"][name]["use"], json.loads(fetched.data["params"]))

    def _cards(self) -> dict[str, str]:
        return {name: pin["card_sha256"] for name, pin in self.pins["plugins"].items()}

    def _show(self, message: Mapping[str, Any]) -> None:
        if message["kind"] == "progress":
            self.progress(
                message["message"],
                done=message.get("done"),
                total=message.get("total"),
                **message.get("figures", {}),
            )
        elif message["kind"] == "check":
            self.journal.append(
                "step-checked", {key: message[key] for key in ("step", "name", "passed", "detail")}
            )

    def _logs(self, name: str, attempt: int) -> tuple[Path, Path]:
        folder = self.journal.root / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.{attempt}.stdout.txt", folder / f"{name}.{attempt}.stderr.txt"
