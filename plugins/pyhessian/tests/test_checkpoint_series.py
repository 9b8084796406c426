"""A series of checkpoints in one step: the same draws, a table of its own, and errors that say which."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from atlas_pyhessian.instrument import measure
from atlas_pyhessian.series import step_number
from attrs import evolve

from atlas.errors import InstrumentFailed
from atlas.manifest.structure import fill

from .test_instrument import OFFER, SLICES, ProblemTarget, RecordingContext


class SeriesContext(RecordingContext):
    """A step whose target is a series; says how many members are alive when one is opened."""

    def targets(self):
        self.alive, opened = [], []
        for label, scale in self.members:
            target = ProblemTarget(scaled(self.opened.problem, scale))
            opened.append(weakref.ref(target.module))
            gc.collect()
            self.alive.append(sum(module() is not None for module in opened))
            yield label, target
            del target


def scaled(problem, scale):
    """The same loss times a constant, on a module of its own: every eigenvalue times that constant."""
    module = copy.deepcopy(problem.module)

    def loss_sum(batch):
        values = dict(zip(dict(problem.module.named_parameters()), module.parameters(), strict=True))
        first = torch.nn.functional.linear(batch.inputs["x"], values["first.weight"], values["first.bias"])
        last = torch.nn.functional.linear(torch.tanh(first), values["last.weight"], values["last.bias"])
        return scale * torch.nn.functional.cross_entropy(last, batch.inputs["y"], reduction="sum")

    return evolve(problem, module=module, loss_sum=loss_sum)


@pytest.fixture
def run(problem_and_hessian):
    def start(*members, slices=SLICES[:1], **params):
        context = SeriesContext(ProblemTarget(problem_and_hessian("mlp")[0]), fill(OFFER["params"], params))
        context.slices, context.members = slices, members
        measure(context)
        return context

    return start


def test_checkpoints_share_their_draws_and_form_a_table(run):
    """Twice the loss has twice every number, to rounding, only if the probes are the same."""
    context = run(("step1", 1.0), ("step2", 2.0), trace={"max_probes": 3}, density={"probes": 2})
    first, second = context.tables["series"]
    assert (first["position"], first["label"], first["step"], first["slice"]) == (1, "step1", 1, "one")
    for name in ("lambda_max", "lambda_min", "trace", "trace_standard_error", "trace_high", "loss"):
        assert second[name] == pytest.approx(2 * first[name], rel=1e-9), name
    for name in ("lambda_max", "lambda_min"):
        assert first[f"{name}_residual"] == context.value(name, "step1").uncertainty
    assert first["trace_low"] == context.value("trace", "step1").low
    assert {row["slice"] for row in context.tables["spectrum"]} == {"step1", "step2"}
    assert "same start vectors and probes" in context.facts["series.draws"]


def test_several_slices_are_keyed_by_checkpoint_and_slice(run):
    context = run(("a", 1.0), ("b", 1.0), slices=SLICES, trace=False)
    keys = ["a: one", "a: two", "b: one", "b: two"]
    assert list(dict.fromkeys(row["slice"] for row in context.tables["loss"])) == keys
    assert [(row["label"], row["slice"]) for row in context.tables["series"]] == [
        ("a", "one"), ("a", "two"), ("b", "one"), ("b", "two"),
    ]  # fmt: skip


def test_the_checkpoint_that_a_direction_leads_to_is_measured_without_it(problem_and_hessian):
    """A way from each checkpoint to the last is natural, and the last has none."""
    problem = problem_and_hessian("mlp")[0]

    class WithEnd(SeriesContext):
        def target(self, name=None):
            return ProblemTarget(problem)

        def targets(self):
            away = scaled(problem, 1.0)
            with torch.no_grad():
                next(away.module.parameters()).add_(0.1)
            yield "away", ProblemTarget(away)
            yield "end", ProblemTarget(scaled(problem, 1.0))

    params = fill(OFFER["params"], {"along": ["end", "gradient"], "trace": False})
    context = WithEnd(ProblemTarget(problem), params)
    context.slices = SLICES[:1]
    measure(context)
    rows = [(row["slice"], row["direction"]) for row in context.tables["directions"]]
    assert rows == [("away", "end"), ("away", "gradient"), ("end", "gradient")]
    assert "has the same weights" in context.facts["along.end.end"]


def test_one_checkpoint_is_alive_at_a_time(run):
    assert run(("a", 1.0), ("b", 1.0), ("c", 1.0), trace=False).alive == [1, 1, 1]


def test_a_checkpoint_that_fails_is_named_and_nothing_is_written(problem_and_hessian):
    context = SeriesContext(ProblemTarget(problem_and_hessian("mlp")[0]), fill(OFFER["params"], {}))
    context.slices, context.members = SLICES[:1], (("good", 1.0), ("bad", -1.0))
    with pytest.raises(InstrumentFailed, match=r"^checkpoint bad: expected a positive finite loss"):
        measure(context)
    assert context.tables == {}


@pytest.mark.parametrize(
    ("label", "step"),
    [
        ("step3000", 3000),
        ("stage1-step1000-tokens5B", 1000),
        ("runs/v2/checkpoint-500/", 500),
        ("main", None),
        ("3c164a1f0b9d77", None),
    ],
)
def test_the_training_step_is_read_from_the_label(label, step):
    assert step_number(label) == step
