"""What is wrong with a target is said by name before a number is made of it; what is only odd is measured."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from atlas_pyhessian.instrument import measure

from atlas.contracts import Slice, StimulusItem
from atlas.errors import BadInput, InstrumentFailed
from atlas.manifest.structure import fill
from atlas.randomness import RandomStreams
from atlas.testing import Atlas

CLINIC = Path(__file__).parent / "clinic"
CARD = Path(find_spec("atlas_pyhessian").origin).parent / "atlas-plugin.yaml"
SCHEMA = yaml.safe_load(CARD.read_text("utf-8"))["provides"]["instruments"]["pyhessian"]["params"]
TEXTS = ("one two", "three four five", "six seven")


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Measure a patient of the clinic; returns what was recorded, by name."""
    monkeypatch.syspath_prepend(str(CLINIC))
    from atlas_clinic.patients import Patient

    def run(name, texts=TEXTS, **params):
        items = tuple(StimulusItem(f"text-{n}", text) for n, text in enumerate(texts, start=1))
        patient, quantities = Patient(name), []

        def check(name, passed, detail):
            if not passed:
                raise InstrumentFailed(detail)

        measure(
            SimpleNamespace(
                step="curvature",
                params=fill(SCHEMA, params),
                slices=(Slice("all", items),),
                max_tokens=None,
                random=RandomStreams(7),
                threads=1,
                scratch=tmp_path,
                keep=None,
                targets=lambda: [("", patient)],
                check=check,
                record=quantities.append,
                table=lambda name, rows: None,
                fact=lambda name, value: None,
                progress=lambda message, **figures: None,
            )
        )
        return {q.quantity: q for q in quantities}

    yield run
    for module in [module for module in sys.modules if module.startswith("atlas_clinic")]:
        del sys.modules[module]


REFUSED = {
    ("nan loss", "batch_size: 1"): (InstrumentFailed, r"found nan of batch 1 \(text-2\)"),
    ("nan gradient", "batch_size: 1"): (InstrumentFailed, r"batch 0 .*the gradient by first.bias is not fin"),
    ("nan product", "batch_size: 1"): (InstrumentFailed, r"batch 0 .*product is not finite at first.bias"),
    ("healthy", "parameters: [nothing.*]"): (BadInput, r"'nothing.\*' matches no parameter"),
    ("healthy", "top_k: 400"): (BadInput, r"max_matvecs is 300: too few for 183 eigenvalues"),
    ("dropout", "graph: retained"): (BadInput, r"not deterministic: one product, computed twice, differs"),
    ("dropout", "graph: recompute"): (BadInput, r"not deterministic: one product, computed twice, differs"),
    ("flash attention", ""): (BadInput, r"no double backward: .*flash_attention.* is not implemented"),
    ("once differentiable", ""): (
        BadInput,
        r"goes through atlas_clinic.patients.Once, whose backward is mar",
    ),
    ("opaque", ""): (BadInput, r"differs by .*% from the change of the gradient: .*patients.Opaque leaves"),
    ("mixed dtypes", ""): (
        BadInput,
        r"differ in dtype or device: torch.float32 on cpu, torch.float64 on cpu",
    ),
}


@pytest.mark.parametrize(("patient", "params"), REFUSED, ids=lambda value: value)
def test_what_cannot_be_measured_is_refused_by_name(measured, patient, params):
    kind, message = REFUSED[patient, params]
    with pytest.raises(kind, match=message):
        measured(patient, **(yaml.safe_load("{" + params + "}")))


def test_an_item_without_a_scored_token_is_refused_by_name(measured):
    with pytest.raises(BadInput, match=r"batch 0 \(text-1\): the weight of a batch is 0: .*no scored token"):
        measured("healthy", ("one",))
    with pytest.raises(BadInput, match=r"batch 1 \(text-2\): the weight of a batch is 0"):
        measured("healthy", ("one two", "three"), batch_size=1)


@pytest.mark.parametrize("patient", ["linear loss", "constant loss"])
def test_a_zero_hessian_has_certified_zeros_and_no_condition_number(measured, patient):
    found = measured(patient, density={"probes": 2})
    for name in ("lambda_max", "lambda_min", "trace", "frobenius_squared"):
        assert (found[name].value, found[name].uncertainty, found[name].converged) == (0.0, 0.0, True), name
    for name in ("condition_number", "negativity_ratio", "outlier_ratio", "kappa_eps", "effective_rank"):
        assert found[name].value is None, name
        assert "zero" in found[name].note or "no certified eigenvalue" in found[name].note, name


ODD = ("unused parameter", "integer parameters", "tied")


@pytest.mark.parametrize("patient", ODD)
def test_what_is_only_odd_is_measured_as_the_healthy_is(measured, patient):
    """None of these adds an entry that bends the loss; the oracle is the target without it."""
    expected, observed = measured("healthy", top_k=3), measured(patient, top_k=3)
    for name in ("loss", "lambda_max", "lambda_min"):
        assert observed[name].value == pytest.approx(expected[name].value, abs=1e-3), name


def test_more_eigenvalues_than_dimensions_are_all_of_them(measured):
    found = measured("healthy", top_k=400, max_matvecs=800, trace=False)
    assert "whole space" in found["lambda_max"].note
    assert found["lambda_max"].uncertainty <= 1e-11  # rounding, which the recurrence is allowed


def test_mixed_dtypes_are_measured_in_the_wider(measured):
    expected, observed = measured("healthy"), measured("mixed dtypes", dtype="float64")
    assert observed["lambda_max"].value == pytest.approx(expected["lambda_max"].value, rel=1e-6)


def test_a_function_of_python_that_can_be_differentiated_twice_is_measured(measured):
    """The clinic's square is then the same loss as torch's own."""
    found = measured("twice differentiable", top_k=3)
    plain = measured("composite square", top_k=3)
    assert found["lambda_max"].value == pytest.approx(plain["lambda_max"].value, rel=1e-12)


def test_parameters_are_put_back_bit_for_bit_after_differences(monkeypatch):
    monkeypatch.syspath_prepend(str(CLINIC))
    from atlas_clinic.patients import Patient
    from atlas_pyhessian.operators import HessianOperator
    from atlas_pyhessian.preparation import prepared

    patient = Patient("twice differentiable")
    before = [p.detach().clone() for p in patient.module.parameters()]
    items = [StimulusItem("a", "one two"), StimulusItem("b", "three four five")]
    with prepared(patient.module) as parameters:
        batches = patient.batches(items, batch_size=1, max_tokens=None)
        operator = HessianOperator(parameters, patient.loss_sum, batches, retain_graph=True)
        vector = torch.ones(operator.size, dtype=torch.float64)
        product = operator.repeated_matvec(vector)
        assert operator.num_matvecs == 2
        assert torch.equal(product, operator.matvec(vector))
    assert all(map(torch.equal, before, patient.module.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize(("patient", "params"), REFUSED, ids=lambda value: value)
def test_the_command_line_says_the_same_and_what_to_do(tmp_path, patient, params):
    kind, message = REFUSED[patient, params]
    atlas = Atlas(tmp_path, {"PYTHONPATH": str(CLINIC)})
    atlas.write(
        "m.yaml",
        "atlas: 1\nname: bad\nlineage: TST\nseed: 3\ngovernance: none\n"
        f"targets:\n  lm: {{use: clinic, patient: {patient}}}\n"
        f"stimulus: {{use: text, texts: {list(TEXTS)}}}\n"
        f"steps:\n  - {{id: c, use: pyhessian, target: lm, params: {{{params}}}}}\n",
    )
    outcome = atlas("run", "m.yaml")
    assert outcome.code == {InstrumentFailed: 5, BadInput: 2}[kind]
    told = " ".join(outcome.err.split())
    assert "to do:" in told
    assert "Traceback" not in told
    for part in message.split(".*"):
        assert part.replace("\\", "") in told
