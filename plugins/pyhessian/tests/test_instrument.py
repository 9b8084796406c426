"""The instrument as a step runs it: what is recorded, in which order, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from atlas_pyhessian.instrument import measure
from atlas_pyhessian.schemas import SCHEMAS
from attrs import define, evolve, field

from atlas.contracts import Slice, StimulusItem
from atlas.errors import BadInput, InstrumentFailed
from atlas.manifest.structure import fill
from atlas.randomness import RandomStreams
from atlas.tables import to_csv

CARD = yaml.safe_load(
    (Path(find_spec("atlas_pyhessian").origin).parent / "atlas-plugin.yaml").read_text("utf-8")
)
OFFER = CARD["provides"]["instruments"]["pyhessian"]
SLICES = tuple(
    Slice(key, tuple(StimulusItem(f"{key}-{i}", "text") for i in range(count)))
    for key, count in (("one", 3), ("two", 2))
)


@define
class ProblemTarget:
    """A test problem behind the target interface; a slice of k items is its first k batches."""

    problem: Any
    facts: dict[str, str] = field(factory=dict)

    @property
    def module(self):
        return self.problem.module

    def batches(self, items, *, batch_size, max_tokens):
        return self.problem.batches[: len(items)]

    def loss_sum(self, batch):
        return self.problem.loss_sum(batch)


@define
class RecordingContext:
    """Keeps what an instrument reports, and validates tables as the host does."""

    opened: ProblemTarget
    params: dict[str, Any]
    slices: tuple[Slice, ...] = SLICES
    max_tokens: int | None = None
    random: RandomStreams = field(factory=lambda: RandomStreams(7))
    threads: int = 1
    quantities: list[Any] = field(factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(factory=dict)
    facts: dict[str, str] = field(factory=dict)
    checks: list[tuple[str, bool]] = field(factory=list)
    messages: list[str] = field(factory=list)
    step: str = "curvature"
    keep: Path | None = None
    scratch: Path = field(factory=lambda: Path(tempfile.mkdtemp()))

    def targets(self):
        yield "", self.opened

    def target(self, name=None):
        return self.opened

    def check(self, name, passed, detail):
        self.checks.append((name, passed))
        if not passed:
            raise InstrumentFailed(detail)

    def record(self, quantity):
        self.quantities.append(quantity)

    def table(self, name, rows):
        declared = OFFER["outputs"][name]
        schema = SCHEMAS[declared if isinstance(declared, str) else declared["schema"]]
        self.tables[name] = list(rows)
        assert to_csv(schema, self.tables[name])

    def fact(self, name, value):
        assert isinstance(value, str)
        self.facts[name] = value

    def progress(self, message, *, done=None, total=None, **figures):
        self.messages.append(message)

    def value(self, name, part="one", index=None):
        found = [q for q in self.quantities if (q.quantity, q.slice, q.index) == (name, part, index)]
        assert len(found) == 1, name
        return found[0]


@pytest.fixture
def run(problem_and_hessian):
    def start(name="mlp", problem=None, **params):
        target = ProblemTarget(problem or problem_and_hessian(name)[0])
        context = RecordingContext(target, fill(OFFER["params"], params))
        measure(context)
        return context

    return start


def test_a_slice_is_measured_against_its_exact_hessian(run, problem_and_hessian):
    problem, exact = problem_and_hessian("mlp")
    context = run(top_k=3, tolerance=1e-5, trace={"max_probes": 12}, density={"probes": 3})
    theta = torch.linalg.eigvalsh(exact)
    norm = float(theta.abs().max())
    assert context.value("lambda_max").value == pytest.approx(float(theta[-1]), abs=1e-6 * norm)
    assert context.value("lambda_min").value == pytest.approx(float(theta[0]), abs=1e-6 * norm)
    assert context.value("loss").value == pytest.approx(problem.mean_loss().item())
    trace = context.value("trace")
    assert trace.low <= float(theta.sum()) <= trace.high
    assert trace.num_samples == 12
    assert {row["slice"] for row in context.tables["spectrum"]} == {"one", "two"}
    assert {row["end"] for row in context.tables["spectrum"]} >= {"max", "min"}
    assert len(context.tables["probes"]) == 24
    assert len(context.tables["density"]) == 120


def test_every_quantity_is_named_on_the_card(run):
    context = run(density={"probes": 2}, along=["gradient"])
    assert {q.quantity for q in context.quantities} == set(OFFER["quantities"])


def test_the_same_step_gives_the_same_numbers(run):
    first, second = (run("gpt2", top_k=2, trace={"max_probes": 3}) for _ in range(2))
    assert [q.as_record() for q in first.quantities] == [q.as_record() for q in second.quantities]
    assert first.tables == second.tables


def test_parts_that_are_switched_off_leave_no_table(run):
    context = run(trace=False, density=False)
    assert set(context.tables) == {"loss", "spectrum"}
    assert "trace" not in {q.quantity for q in context.quantities}


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_loss_that_is_not_positive_and_finite_stops_before_any_product(run, problem_and_hessian, factor):
    problem, _ = problem_and_hessian("mlp")
    broken = evolve(problem, loss_sum=lambda batch: factor * problem.loss_sum(batch))
    with pytest.raises(InstrumentFailed, match=r"expected a positive finite loss, found .* of batch 0"):
        run(problem=broken)


@pytest.mark.parametrize("operator", ["ggn", "empirical_fisher"])
def test_another_matrix_is_measured_where_the_target_offers_its_outputs(problem_and_hessian, operator):
    """Positive semidefinite: no negative end beyond its residual. The record names the matrix."""
    problem, exact = problem_and_hessian("mlp")
    module = problem.module

    class OutputTarget(ProblemTarget):
        sample_dims = 1

        def outputs(self, batch):
            return module["last"](torch.tanh(module["first"](batch.inputs["x"])))

        def output_loss(self, outputs, batch):
            return torch.nn.functional.cross_entropy(outputs, batch.inputs["y"], reduction="sum")

    params = fill(OFFER["params"], {"operator": operator, "trace": False})
    context = RecordingContext(OutputTarget(problem), params)
    measure(context)
    assert context.facts["operator"] == operator
    low, high = context.value("lambda_min"), context.value("lambda_max")
    assert low.value + low.uncertainty >= 0 < high.value - high.uncertainty
    assert high.value != pytest.approx(float(torch.linalg.eigvalsh(exact)[-1]), rel=1e-3)


def test_a_target_without_outputs_has_a_hessian_only(run):
    with pytest.raises(BadInput, match=r"Gauss-Newton matrix needs a target that offers its outputs"):
        run(operator="ggn")


def test_the_library_knows_the_hessian_only(run):
    with pytest.raises(BadInput, match="knows the Hessian only"):
        run(engine="pyhessian", operator="ggn")


def test_the_library_is_marked_uncertified_and_leaves_nothing_behind(run, problem_and_hessian):
    """Parameters that the loss does not use, on which it would assert, are in this module."""
    problem, exact = problem_and_hessian("mlp")
    context = run(engine="pyhessian", top_k=2, trace={"max_probes": 5})
    top = context.value("eigenvalue", index=1)
    assert (top.uncertainty_kind.value, top.converged) == ("uncertified", False)
    assert top.num_matvecs > 2
    norm = float(torch.linalg.eigvalsh(exact).abs().max())
    assert top.value == pytest.approx(norm, rel=0.1)
    assert context.value("lambda_min").value is None
    assert context.value("condition_number").value is None
    assert not any("residual_norm" in row for row in context.tables["spectrum"])
    assert all(p.grad is None and p.requires_grad for p in problem.module.parameters())


def test_the_library_is_repeatable_and_spares_the_global_generator(run):
    before = torch.random.get_rng_state()
    first, second = (run(engine="pyhessian", top_k=1, trace=False) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.tables["spectrum"] == second.tables["spectrum"]


def test_the_library_refuses_a_density(run):
    with pytest.raises(BadInput, match="density does not run"):
        run(engine="pyhessian", density={"probes": 2})


def test_the_plugin_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys, atlas_pyhessian.plugin as p; p.atlas_instruments(); p.atlas_schemas();"
        "p.atlas_report_sections(); sys.exit(bool({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_memory_that_cannot_suffice_is_refused_before_anything_is_computed(problem_and_hessian):
    context = RecordingContext(
        ProblemTarget(problem_and_hessian("mlp")[0]), fill(OFFER["params"], {"memory_gb": 0.01})
    )
    with pytest.raises(BadInput, match=r"nothing fits into the 0\.01 GiB of memory_gb"):
        measure(context)
    assert (context.checks, context.quantities) == ([], [])


def test_the_memory_plan_and_its_arithmetic_are_recorded(run):
    facts = run(trace=False, basis={"place": "disk"}, graph="recompute").facts
    assert facts["memory.plan.one"].endswith("graphs built anew, freed memory reused, basis on disk")
    terms, total = facts["memory.arithmetic.one"].split(" = ")
    sizes = [float(term.split()[-1]) for term in terms.split(" + ")]
    assert sum(sizes) == pytest.approx(float(total.split()[0]), abs=0.005 * len(sizes))
