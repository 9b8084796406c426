"""Recorded runs for tests: written by the real journal and store, with invented numbers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from atlas.contracts import StimulusItem
from atlas.quantities import Quantity
from atlas.randomness import derive_seed
from atlas.record import RunView, canonical_json, open_record
from atlas.run.inventory import record_environment
from atlas.run.journal import Journal
from atlas.run.stimulus import encode
from atlas.run.store import Deposit, Store
from atlas.tables import QUANTITIES, Column, TableSchema, to_csv

RUN_ID = "PYH-SML-20261122-001"
RECORD_ID = "BSA-SML-20261122-001"

SPECTRUM = TableSchema(
    name="spectrum",
    version=1,
    description="Eigenvalues of one slice.",
    columns=(
        Column("index", "integer", "Position.", required=True),
        Column("eigenvalue", "number", "Ritz value.", required=True),
        Column("code", "string", "The Technician's call.", judgement=True),
    ),
    primary_key=("index",),
)

ITEMS = (
    StimulusItem("B-01a", "Moderate drinking protects the heart.", {"tier": "contested", "pair": "B-01"}),
    StimulusItem("B-01b", "No amount of drinking is safe.", {"tier": "contested", "pair": "B-01"}),
)

QUANTITIES_MEASURED = (
    Quantity("lambda", 114.11713, 3.1e-4, "residual_bound", num_matvecs=96, index=1, slice="B-01"),
    Quantity("lambda", 41.52, 0.011, "residual_bound", num_matvecs=96, index=2, slice="B-01"),
    Quantity("lambda_min", -7.25, 0.5, "residual_bound", converged=False, num_matvecs=96, slice="B-01"),
    Quantity("trace", 5210.4, 130.2, "standard_error", num_matvecs=40, num_samples=40, slice="B-01"),
    Quantity(
        "condition_number", None, None, "undefined", slice="B-01", note="lambda_min is below its residual"
    ),
    Quantity("loss", 3.2071, 0.0, "exact", unit="nat", num_samples=62, slice="B-01"),
)

Change = Callable[[dict[str, Any]], None]


def manifest(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "atlas": 1,
        "name": "contested-curvature",
        "lineage": "SML",
        "seed": 7,
        "seed_policy": "bound",
        "threads": 1,
        "governance": {"use": "cisp", "version": "1.1", "operator": "A. Technician", "bsa_record": RECORD_ID},
        "targets": {"lm": {"use": "hf", "path": "models/smollm2-135m", "dtype": "float32"}},
        "stimulus": {"use": "bsa", "version": "0.2", "each": "pair", "max_tokens": 32},
        "declare": [
            {
                "id": "h1",
                "quantity": "curvature.lambda_max",
                "group": {"tier": "contested"},
                "against": {"tier": "ground_truth"},
                "expect": "greater",
                "alpha": 0.05,
            }
        ],
        "steps": [
            {"id": "curvature", "use": "pyhessian", "target": "lm", "params": {"top_k": 2}, "threads": 1},
            {
                "id": "synthesis",
                "use": "synthesis",
                "params": {"adapter": "manual"},
                "sees": [{"from": "curvature.raw"}, {"from": "read-1"}],
            },
        ],
    }
    return data | changes


def write_record(runs: Path) -> RunView:
    """A behavioural record collected by hand."""
    root = runs / RECORD_ID
    scores = TableSchema("scores", 1, "Scores.", (Column("score", "number", "0 to 100.", required=True),))
    with Journal.create(root) as journal:
        journal.append("created", {"run_id": RECORD_ID, "atlas": "0.1.0", "governed": False})
        Store.open(journal).seal_together(
            "step-finished",
            {"step": "bsa", "attempt": 1},
            [
                Deposit("raw/bsa/scores.csv", to_csv(scores, [{"score": 61.0}]), "table"),
                Deposit("raw/bsa/scores.schema.json", canonical_json(scores.descriptor()), "schema"),
                Deposit("raw/bsa/facts.json", canonical_json({"models": "3"}), "facts"),
            ],
        )
        journal.append("finished", {"tier": "C", "conditions": []})
    return open_record(root)


class Writer:
    """Plays the host for one run; each method is one stretch of the run."""

    manifest = staticmethod(manifest)

    def __init__(self, root: Path, journal: Journal, data: dict[str, Any]) -> None:
        self.root, self.journal, self.data = root, journal, data
        self.store = Store.open(journal)
        self.bound: int | None = None

    def prepare(self, record: RunView | None, items: tuple[StimulusItem, ...] = ITEMS) -> None:
        governed = self.data["governance"] != "none"
        self.journal.append("created", {"run_id": self.root.name, "atlas": "0.1.0", "governed": governed})
        text = yaml.safe_dump(self.data, sort_keys=False, allow_unicode=True).encode()
        plugin = {"distribution": "atlas-pyhessian", "version": "0.1.0", "card_sha256": "ab" * 32}
        instrument = {
            "plugin": "pyhessian",
            "summary": "Curvature of a loss: eigenvalues, trace and density of its Hessian.",
            "claims": ["These are the largest eigenvalues of the loss, each within its residual."],
        }
        pins = {
            "plugins": {"pyhessian": plugin},
            "offers": [["instruments", "pyhessian"]],
            "instruments": {"pyhessian": instrument},
            "notes": [],
        }
        environment = {"plugins.json": canonical_json(pins), **record_environment()}
        self.store.seal_together(
            "prepared",
            {},
            [
                Deposit("manifest.yaml", text, "manifest"),
                Deposit("manifest.resolved.yaml", text, "resolved-manifest"),
                Deposit("stimulus/items.jsonl", encode(items), "stimulus"),
                *(Deposit(f"environment/{name}", d, "environment") for name, d in environment.items()),
            ],
        )
        if record is not None:
            folder = f"records/{record.run_id}"
            shutil.copytree(record.root, self.root / folder, ignore=shutil.ignore_patterns(".*"))
            self.journal.append(
                "record-linked",
                {"record": record.run_id, "head": str(record.head), "tier": "C", "folder": folder},
            )
        hypotheses = json.loads(json.dumps(self.data["declare"]), parse_float=str)
        self.journal.append("declared", {"hypotheses": hypotheses})
        self.journal.append("stage-done", {"stage": "prepare"})

    def gate(
        self, gate: str, stage: str, text: str, *, title: str = "", author: str = "A. Technician"
    ) -> None:
        self.journal.append("gate-opened", {"gate": gate, "stage": stage, "title": title or gate})
        path = f"reads/{gate}.md" if gate.startswith("read") else f"answers/{gate}.md"
        data = text.encode()
        event = self.store.seal_together(
            "gate-answered",
            {
                "gate": gate,
                "author": author,
                "path": path,
                "sha256": hashlib.sha256(data).hexdigest(),
                "via": "file",
            },
            [Deposit(path, data, "read" if gate.startswith("read") else "answer")],
        )
        if gate == "read-0":
            self.bound = derive_seed(self.data["seed"], self.journal.view().head_after(event).sha256)

    def start(self, step: str, attempt: int, inputs: tuple[str, ...] = ()) -> None:
        seed = derive_seed(self.bound if self.bound is not None else self.data["seed"], f"step {step}")
        artifacts = self.journal.view().artifacts
        self.journal.append(
            "step-started",
            {
                "step": step,
                "attempt": attempt,
                "seed": str(seed),
                "inputs": {path: artifacts[path].sha256 for path in inputs},
                "isolation": "process",
                "threads": 1,
            },
        )

    def curvature(
        self,
        quantities: tuple[Quantity, ...] = QUANTITIES_MEASURED,
        facts: dict[str, str] | None = None,
        spectrum: tuple[float, ...] = (114.11713, 41.52),
        check: tuple[str, str] = ("loss", "the loss is 3.2071 nat"),
    ) -> None:
        self.journal.append("target-fetched", {"target": "lm", "params": '{"path":"models/smollm2-135m"}'})
        self.start("curvature", 1)
        self.journal.append(
            "step-checked",
            {"step": "curvature", "name": check[0], "passed": True, "detail": check[1]},
        )
        facts = facts or {
            "target.dtype": "float32",
            "target.device": "cpu",
            "target.sha256:model.safetensors": "cd" * 32,
            "target.licence": "Apache-2.0",
        }
        rows = [{"index": n, "eigenvalue": value} for n, value in enumerate(spectrum, start=1)]
        machine = {"module.torch": "2.13.0", "cpu": "a CPU"}
        self.store.seal_together(
            "step-finished",
            {"step": "curvature", "attempt": 1, "seconds": "61.2"},
            [
                Deposit(
                    "raw/curvature/quantities.csv",
                    to_csv(QUANTITIES, (q.as_record() for q in quantities)),
                    "table",
                ),
                Deposit(
                    "raw/curvature/quantities.schema.json", canonical_json(QUANTITIES.descriptor()), "schema"
                ),
                Deposit("raw/curvature/spectrum.csv", to_csv(SPECTRUM, rows), "table"),
                Deposit(
                    "raw/curvature/spectrum.schema.json", canonical_json(SPECTRUM.descriptor()), "schema"
                ),
                Deposit("raw/curvature/facts.json", canonical_json(facts), "facts"),
                Deposit("environment/curvature.json", canonical_json(machine), "environment"),
            ],
        )
        self.journal.append("stage-done", {"stage": "measure"})
        (self.root / "logs").mkdir(exist_ok=True)
        (self.root / "logs" / "curvature.1.stdout.txt").write_bytes(b"done\n")

    def synthesis(self, text: str) -> None:
        inputs = ("raw/curvature/quantities.csv", "reads/read-1.md")
        self.start("synthesis", 1, inputs)
        self.journal.append(
            "step-waiting",
            {"step": "synthesis", "attempt": 1, "ask": "Put the package before the model.", "folder": ""},
        )
        self.gate("synthesis", "interpret", text)
        self.start("synthesis", 2, (*inputs, "answers/synthesis.md"))
        self.store.seal_together(
            "step-finished",
            {"step": "synthesis", "attempt": 2, "seconds": "0.4"},
            [Deposit("raw/synthesis/answer.md", text.encode(), "attachment")],
        )
        self.journal.append("stage-done", {"stage": "interpret"})

    def finish(self, tier: str) -> None:
        self.journal.append("stage-done", {"stage": "close"})
        self.journal.append("finished", {"tier": tier, "conditions": []})


def write_governed(root: Path, *, until: str = "finished") -> RunView:
    """A governed run as far as `read-0`, `measured`, or to its end."""
    record = write_record(root.parent / "elsewhere")
    with Journal.create(root) as journal:
        run = Writer(root, journal, manifest())
        run.prepare(record)
        run.gate("sanitisation", "measure", "All boxes are ticked.")
        run.gate("read-0", "measure", "I expect the contested pair to be sharper.\n\nNothing else.")
        if until != "read-0":
            run.curvature()
        if until == "finished":
            run.gate("read-1", "interpret", "Sharper than I thought, on both claims.")
            run.synthesis("The two claims differ little.")
            run.gate("read-2", "close", "It agrees with me. The model overlooks the trace.")
            run.finish("A")
    return open_record(root)


def write_ungoverned(root: Path, **changes: Any) -> RunView:
    with Journal.create(root) as journal:
        run = Writer(root, journal, manifest(governance="none", seed_policy="declared", declare=[]))
        run.prepare(None)
        run.curvature(**changes)
        run.journal.append("stage-done", {"stage": "interpret"})
        run.finish("C")
    return open_record(root)


@pytest.fixture(scope="session")
def _governed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_governed(tmp_path_factory.mktemp("once") / RUN_ID).root


@pytest.fixture
def governed(_governed: Path, tmp_path: Path) -> RunView:
    """A finished, governed run with a linked record, two claims and a synthesis; a copy to spoil."""
    return open_record(shutil.copytree(_governed, tmp_path / "runs" / RUN_ID))


@pytest.fixture
def write_run() -> Callable[..., RunView]:
    """Write a governed run up to some point: `write_run(root, until="measured")`."""
    return write_governed


@pytest.fixture
def write_plain_run() -> Callable[..., RunView]:
    """Write an ungoverned run: `write_plain_run(root, quantities=..., facts=...)`."""
    return write_ungoverned


@pytest.fixture(scope="session")
def run_writer() -> type[Writer]:
    """The class that plays the host, for runs that go another way."""
    return Writer
