"""Runs for the tests: real journals and sealed files, told as a list of moves that a test may change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from atlas_cisp.gates import GATES, ITEMS
from atlas_lossyscape.links.schemas import RELATIONS
from attrs import define, field

from atlas.outcomes import VERDICTS
from atlas.quantities import Quantity
from atlas.record import RunView, canonical_json, open_record
from atlas.run.journal import Journal
from atlas.run.store import Deposit, Store
from atlas.tables import QUANTITIES, to_csv

RUN_ID = "PYH-SML-20261122-001"
RECORD_ID = "BSA-SML-20261120-001"
PAIRS = ("bsa-004", "bsa-005")
TICKED = "".join(f"- [x] {item}. {text}\n" for item, text in ITEMS.items())
READS = {
    "read-0": "I expect the contested pairs to give the larger top eigenvalue, near forty; a negative trace "
    "would surprise me very much.\n",
    "read-1": "The contested pair gave 41.5 against 17.2, and both bounds are small.\n",
    "read-2": "Both texts agree on the ordering of the two pairs, and they contradict each other nowhere.\n",
}
QUANTITIES_MEASURED = (
    Quantity("lambda_max", 41.5, 0.02, "residual_bound", num_matvecs=40, slice="bsa-004"),
    Quantity("lambda_max", 17.25, 0.01, "residual_bound", num_matvecs=40, slice="bsa-005"),
    Quantity("lambda_min", -3.5, 0.03, "residual_bound", num_matvecs=40, slice="bsa-004"),
    Quantity("trace", 812.0, 15.0, "standard_error", num_matvecs=64, num_samples=64, slice="bsa-004"),
    Quantity("condition_number", None, None, "undefined", note="lambda_min is negative", slice="bsa-004"),
)
MANIFEST: Mapping[str, Any] = {
    "atlas": 1,
    "name": "contested-curvature",
    "lineage": "SML",
    "seed": 7,
    "seed_policy": "bound",
    "threads": 1,
    "governance": {"use": "cisp", "version": "1.1", "operator": "A. Technician", "bsa_record": RECORD_ID},
    "targets": {"lm": {"use": "hf", "path": "./models/smollm2-135m", "dtype": "float32"}},
    "stimulus": {
        "use": "bsa",
        "version": "0.2",
        "where": {"tier": ["contested"]},
        "each": "pair",
        "max_tokens": 32,
    },
    "declare": [{"id": "h1", "quantity": "curvature.lambda_max", "expect": "greater"}],
    "steps": [
        {
            "id": "curvature",
            "use": "pyhessian",
            "target": "lm",
            "params": {"top_k": 3},
            "isolation": "process",
        },
        {
            "id": "synthesis",
            "use": "synthesis",
            "params": {"adapter": "manual"},
            "isolation": "process",
            "sees": [{"from": "curvature.raw"}, {"from": "read-1"}],
        },
    ],
}
MOVES = (
    "created", "prepared", "record", "declared", "prepare", "sanitisation", "read-0", "fetch", "measure",
    "measure-done", "read-1", "inspect", "synthesis", "interpret-done", "read-2", "close-done",
)  # fmt: skip


def record_by_hand(
    root: Path, *, tier: str = "A", pairs: Iterable[str] = PAIRS, minimum: str = "met"
) -> Path:
    """Write a behavioural record whose journal ends in `tier`."""
    facts = canonical_json({"stimulus": "bsa 0.2", "pairs": " ".join(pairs), "minimum": minimum})
    with Journal.create(root) as journal:
        journal.append("created", {"run_id": root.name, "atlas": "0.1.0", "governed": False})
        Store.open(journal).seal_together(
            "step-finished",
            {"step": "bsa", "attempt": 1},
            [
                Deposit("raw/bsa/facts.json", facts, "facts"),
                Deposit("raw/bsa/answers.txt", b"40\n", "attachment"),
            ],
        )
        journal.append("finished", {"tier": tier, "conditions": []})
    return root


@define
class Story:
    """A run in the making; each move is a method or a gate's id."""

    root: Path
    journal: Journal
    manifest: dict[str, Any] = field(factory=lambda: json.loads(json.dumps(MANIFEST)))
    answers: dict[str, str] = field(factory=lambda: {"sanitisation": TICKED, **READS})
    pairs_of_record: tuple[str, ...] = PAIRS
    record_tier: str = "C"
    minimum_of_record: str = "met"
    isolation: dict[str, str] = field(factory=dict)
    facts: dict[str, dict[str, str]] = field(factory=dict)
    quantities: tuple[Quantity, ...] = QUANTITIES_MEASURED
    sees: tuple[str, ...] = ("raw/curvature/quantities.csv", "reads/read-1.md")
    problems: tuple[str, ...] = ()
    loss_passed: bool = True

    def move(self, name: str) -> None:
        if name in self.answers:
            self._answer(name)
        elif name.startswith("skip "):
            gate = name.removeprefix("skip ")
            self._open(gate)
            self.journal.append(
                "gate-skipped", {"gate": gate, "author": "A. Technician", "reason": "no time"}
            )
        elif name.endswith("-done"):
            self.journal.append("stage-done", {"stage": name.removesuffix("-done")})
        else:
            getattr(self, "_" + name.replace("-", "_"))()

    def _created(self) -> None:
        self.journal.append("created", {"run_id": self.root.name, "atlas": "0.1.0", "governed": True})

    def _prepared(self) -> None:
        items = "".join(
            json.dumps({"id": f"{pair}{side}", "text": f"claim {pair}{side}", "attributes": {"pair": pair}})
            + "\n"
            for pair in PAIRS
            for side in "ab"
        )
        resolved = yaml.safe_dump(self.manifest, sort_keys=False).encode()
        self._seal(
            "prepared",
            {},
            {
                "manifest.yaml": resolved,
                "manifest.resolved.yaml": resolved,
                "environment/python.json": b'{"python":"3.11.7","packages":{"torch":"2.13.0"}}',
                "stimulus/items.jsonl": items.encode(),
            },
        )

    def _prepared_without_environment(self) -> None:
        resolved = yaml.safe_dump(self.manifest, sort_keys=False).encode()
        items = json.dumps({"id": "bsa-004a", "text": "x", "attributes": {"pair": "bsa-004"}}) + "\n"
        self._seal(
            "prepared", {}, {"manifest.resolved.yaml": resolved, "stimulus/items.jsonl": items.encode()}
        )

    def _record(self) -> None:
        folder = self.root / "records" / RECORD_ID
        record_by_hand(
            folder, tier=self.record_tier, pairs=self.pairs_of_record, minimum=self.minimum_of_record
        )
        head = open_record(folder).head
        self.journal.append(
            "record-linked",
            {
                "record": RECORD_ID,
                "head": str(head),
                "tier": self.record_tier,
                "folder": f"records/{RECORD_ID}",
            },
        )

    def _declared(self) -> None:
        self.journal.append("declared", {"hypotheses": self.manifest["declare"]})

    def _prepare(self) -> None:
        self.journal.append("stage-done", {"stage": "prepare"})

    def _open(self, gate: str) -> None:
        if gate not in self.journal.view().gates:
            known = next(g for g in GATES if g.id == gate)
            self.journal.append("gate-opened", {"gate": gate, "stage": known.stage, "title": known.title})

    def _answer(self, gate: str) -> None:
        self._open(gate)
        path = next(g.path for g in GATES if g.id == gate)
        data = self.answers[gate].encode()
        digest = hashlib.sha256(data).hexdigest()
        event = {"gate": gate, "author": "A. Technician", "path": path, "sha256": digest, "via": "file"}
        self._seal("gate-answered", event, {path: data})

    def _override(self) -> None:
        self.journal.append(
            "override-signed",
            {"gate": "read-1", "author": "A. Technician", "reason": "quoted", "problems": ["a term"]},
        )

    def _fetch(self) -> None:
        self.journal.append("target-fetched", {"target": "lm", "params": "{}"})

    def _start(self, step: str, paths: Iterable[str], attempt: int = 1) -> None:
        artifacts = self.journal.view().artifacts
        self.journal.append(
            "step-started",
            {
                "step": step,
                "attempt": attempt,
                "seed": "1",
                "inputs": {path: artifacts[path].sha256 for path in paths},
                "isolation": self.isolation.get(step, "process"),
                "threads": 1,
            },
        )

    def _finish(self, step: str, files: Mapping[str, bytes]) -> None:
        facts = canonical_json(self.facts.get(step, {}))
        deposits = {f"raw/{step}/{name}": data for name, data in {"facts.json": facts, **files}.items()}
        self._seal("step-finished", {"step": step, "attempt": 1, "seconds": "1.0"}, deposits)

    def _measure(self) -> None:
        self._start("curvature", ())
        self.journal.append(
            "step-checked",
            {"step": "curvature", "name": "loss", "passed": self.loss_passed, "detail": "loss 3.2 per token"},
        )
        rows = [quantity.as_record() for quantity in self.quantities]
        self._finish(
            "curvature",
            {
                "quantities.csv": to_csv(QUANTITIES, rows),
                "quantities.schema.json": canonical_json(QUANTITIES.descriptor()),
            },
        )

    def _judge(self) -> None:
        row = {
            "hypothesis": "h1",
            "registered": "declared",
            "quantity": "curvature.lambda_max",
            "group": "tier contested",
            "against": "tier ground_truth",
            "expect": "greater",
            "alpha": 0.05,
            "design": "permutation between 12 and 9 independent slices: studentised, all 293930",
            "n_group": 12,
            "n_against": 9,
            "effect": -826.5,
            "low": -1610.25,
            "high": -42.75,
            "coverage": 0.9,
            "unit": "nat",
            "p": 0.957,
            "p_holm": 0.957,
            "p_opposite": 0.043,
            "p_opposite_holm": 0.043,
            "verdict": "contradicted",
            "measurement_bound": 25.25,
            "measurement_error": 0.0,
        }
        files = {
            "verdicts/hypotheses.csv": to_csv(VERDICTS, [row]),
            "verdicts/hypotheses.schema.json": canonical_json(VERDICTS.descriptor()),
        }
        self._seal("hypotheses-judged", {"declared": 4, "verdicts": {"h1": "contradicted"}}, files)

    def _links(self) -> None:
        rows = [
            {
                "signal": "viscosity",
                "step": "curvature",
                "slice": "bsa-004",
                "index": 1,
                "quantity": "lambda_max",
                "value": 41.5,
                "reference": "the other slices of this run",
                "count": 1,
                "above": 1,
                "below": 0,
                "relation": "high",
                "toward": "high",
                "status": "PROVISIONAL",
            }
        ]
        self._start("links", ["raw/curvature/quantities.csv"])
        self._finish(
            "links",
            {
                "relations.csv": to_csv(RELATIONS, rows),
                "relations.schema.json": canonical_json(RELATIONS.descriptor()),
            },
        )

    def _inspect(self) -> None:
        artifacts = self.journal.view().artifacts
        self.journal.append(
            "inspected",
            {
                "what": "package of step synthesis",
                "inputs": {path: artifacts[path].sha256 for path in self.sees},
                "problems": list(self.problems),
            },
        )

    def _synthesis(self) -> None:
        self._start("synthesis", self.sees)
        self._finish("synthesis", {"answer.md": b"The first pair gives the larger value.\n"})

    def _analysis(self) -> None:
        self._start("analysis", ["raw/curvature/quantities.csv"])
        self._finish("analysis", {"answer.md": b"Two rows differ.\n"})

    def _begun(self) -> None:
        data = {"step": "synthesis", "name": "output begun", "passed": True, "detail": "HTTP 200"}
        self.journal.append("step-checked", data)

    def _seal(self, type: str, data: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        deposits = [Deposit(path, content, "file") for path, content in files.items()]
        Store(self.journal).seal_together(type, data, deposits)


Tell = Callable[..., RunView]
