"""Curvature from Python: any module, loss and data, what it costs, what it shows and what it refuses."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from xml.etree import ElementTree

import pytest
import torch
from atlas_pyhessian import Curvature
from scipy.sparse.linalg import eigsh
from torch.utils.data import DataLoader, TensorDataset

from atlas.errors import BadInput, InstrumentFailed

X = torch.randn(23, 5, generator=torch.Generator().manual_seed(1))
Y = torch.arange(23) % 3
UNEVEN = [(X[:16], Y[:16]), (X[16:], Y[16:])]


def classifier(*more: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), *more, torch.nn.Linear(4, 3))


def exact_hessian(module: torch.nn.Module, loss) -> torch.Tensor:
    """The Hessian of a scalar function of the module, in float64, by rows of a double backward."""
    module.double().eval()
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradients])
    identity = torch.eye(len(flat), dtype=torch.float64)
    rows = torch.autograd.grad(
        flat, parameters, identity, is_grads_batched=True, allow_unused=True, materialize_grads=True
    )
    module.float()
    return torch.cat([row.flatten(1) for row in rows], dim=1)


@pytest.mark.parametrize(
    ("loss", "reduction"),
    [
        (torch.nn.CrossEntropyLoss(), None),
        (torch.nn.functional.cross_entropy, None),
        (torch.nn.CrossEntropyLoss(reduction="sum"), None),
        (lambda z, y: torch.nn.functional.cross_entropy(z, y, reduction="sum"), "sum"),
    ],
)
def test_uneven_batches_give_the_curvature_of_the_mean_over_all_samples(loss, reduction):
    """Against the exact float64 Hessian; certified to 1e-6, so that eigenvalues agree to that."""
    module = classifier()
    exact = exact_hessian(module, lambda: torch.nn.functional.cross_entropy(module(X.double()), Y))
    theta = torch.linalg.eigvalsh(exact)
    curvature = Curvature(module, loss, UNEVEN, reduction=reduction, dtype="float64")
    result = curvature.spectrum(top_k=3, tolerance=1e-6)
    assert result["lambda_max"].value == pytest.approx(float(theta[-1]), rel=1e-6)
    assert result["lambda_min"].value == pytest.approx(float(theta[0]), rel=1e-6)
    assert curvature.loss().weight == 23


def test_class_weights_and_ignored_targets_weigh_as_their_loss_divides():
    module, targets = classifier(), Y.clone()
    targets[[0, 3, 17]] = 7
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]), ignore_index=7)
    curvature = Curvature(module, loss, [(X[:16], targets[:16]), (X[16:], targets[16:])])
    assert curvature.loss().loss == pytest.approx(loss(module(X), targets).item(), rel=1e-6)


@pytest.mark.parametrize("form", ["loader", "pair", "tuple", "named"])
def test_data_come_as_a_loader_one_batch_or_arguments(form):
    module = classifier()

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, a, b):
            return self.inner(a + b)

    given = {
        "loader": lambda: (module, DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True)),
        "pair": lambda: (module, (X, Y)),
        "tuple": lambda: (Sum(), [((X / 4, 3 * X / 4), Y)]),
        "named": lambda: (Sum(), [({"b": X / 4, "a": 3 * X / 4}, Y)]),
    }[form]()
    curvature = Curvature(given[0], torch.nn.CrossEntropyLoss(), given[1])
    expected = float(torch.nn.functional.cross_entropy(module(X), Y))
    assert curvature.loss().loss == pytest.approx(expected, rel=1e-6)


def test_a_generator_is_read_once_and_kept():
    curvature = Curvature(classifier(), torch.nn.CrossEntropyLoss(), (pair for pair in UNEVEN))
    first = curvature.spectrum(top_k=1, fresh_starts=0)
    assert curvature.trace(max_probes=2).facts["loss"] == first.facts["loss"]


def language_batch(lengths=(6, 3)):
    ids = torch.randint(0, 13, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(3))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": ids.masked_fill(~mask, -100)}


@pytest.mark.parametrize("kind", ["causal", "masked", "classes"])
def test_models_of_transformers_need_no_wrapper_and_weigh_scored_labels(kind):
    """The loss of uneven batches is that over all labels, which a causal model shifts by one."""
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"vocab_size": 13, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    if kind == "causal":
        module = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=13, n_embd=8, n_layer=1, n_head=2))
        assert module.training
        batches = [language_batch((6, 3)), language_batch((4, 2, 2))]
    else:
        config = hf.BertConfig(intermediate_size=8, num_labels=3, **small)
        module = hf.BertForMaskedLM(config) if kind == "masked" else hf.BertForSequenceClassification(config)
        batches = [language_batch((6, 3)), language_batch((4, 2, 2))]
        if kind == "classes":
            for batch in batches:
                batch["labels"] = torch.arange(len(batch["input_ids"])) % 3
    expected, count = 0.0, 0
    module.eval()
    for batch in batches:
        with torch.no_grad():
            logits = module(**{k: v for k, v in batch.items() if k != "labels"}).logits
        labels = batch["labels"]
        if kind == "causal":
            logits, labels = logits[:, :-1], labels[:, 1:]
        expected += float(
            torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
        )
        count += int((labels != -100).sum())
    module.train()
    for operator in ("hessian", "ggn", "empirical_fisher"):
        curvature = Curvature(module, data=iter(batches), operator=operator)
        assert curvature.loss().loss == pytest.approx(expected / count, rel=1e-5)
        assert curvature.loss().weight == count
        vector = torch.ones(curvature.operator.size)
        form = float(vector @ curvature.operator.matvec(vector))
        assert operator == "hessian" or form > 0
    assert all(part.training for part in module.modules())


def test_a_loss_of_ones_own_reads_a_model_of_transformers():
    hf = pytest.importorskip("transformers")
    module = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=13, n_embd=8, n_layer=1, n_head=2))
    batch = {"input_ids": language_batch((5, 5))["input_ids"]}

    def loss(outputs, given):
        ids = given["input_ids"]
        return torch.nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    named = {**batch, "labels": batch["input_ids"]}
    own, model = (
        Curvature(module, given, data, operator="empirical_fisher", sample_dims=2, weight=lambda batch: 10)
        for given, data in ((loss, batch), (None, named))
    )
    vector = torch.ones(own.operator.size)
    assert torch.allclose(own.operator.matvec(vector), model.operator.matvec(vector), rtol=1e-4, atol=1e-6)


def test_nothing_is_paid_twice():
    curvature = Curvature(classifier(), torch.nn.CrossEntropyLoss(), UNEVEN)
    first = curvature.spectrum(top_k=3)
    spent = curvature.operator.num_matvecs
    assert first["lambda_max"].num_matvecs == spent
    again = curvature.spectrum(top_k=2)
    assert curvature.operator.num_matvecs == spent
    assert again.eigenvalues == first.eigenvalues
    curvature.density(probes=3, steps=4)
    assert curvature.operator.num_matvecs == spent + 12
    curvature.trace(rel_se=None, max_probes=8)
    assert curvature.operator.num_matvecs == spent + 12 + 5, "the density's probes are trace samples"
    curvature.trace(rel_se=None, max_probes=10)
    assert curvature.operator.num_matvecs == spent + 12 + 7
    everything = curvature.measure(top_k=3, trace={"max_probes": 10}, density={"probes": 3, "steps": 4})
    assert curvature.operator.num_matvecs == spent + 12 + 7
    assert everything["trace"].num_matvecs == spent + 12 + 7


def test_calls_in_any_order_give_the_numbers_of_one_call():
    whole, apart = (Curvature(classifier(), torch.nn.CrossEntropyLoss(), UNEVEN, seed=4) for _ in range(2))
    expected = whole.measure(density={"probes": 2, "steps": 4, "bins": 8})
    density = apart.density(probes=2, steps=4, bins=8)
    trace = apart.trace()
    assert trace["trace"].value == expected["trace"].value
    assert density["count_negative"].value == expected["count_negative"].value
    assert density.density == expected.density
    assert "lambda_max" not in {quantity.quantity for quantity in trace.quantities}


def test_a_request_for_more_is_measured_anew():
    curvature = Curvature(classifier(), torch.nn.CrossEntropyLoss(), UNEVEN)
    assert len(curvature.spectrum(top_k=1, fresh_starts=0).eigenvalues) <= 3
    assert len(curvature.spectrum(top_k=6, fresh_starts=0).eigenvalues) >= 6


def test_other_weights_are_measured_anew():
    module = classifier()
    curvature = Curvature(module, torch.nn.CrossEntropyLoss(), UNEVEN)
    before = curvature.spectrum()
    with torch.no_grad():
        module[0].weight.mul_(1.5)
    after = curvature.spectrum()
    fresh = Curvature(module, torch.nn.CrossEntropyLoss(), UNEVEN).spectrum()
    assert after.eigenvalues == fresh.eigenvalues != before.eigenvalues


def test_the_module_is_as_it_was_after_every_call():
    module = classifier(torch.nn.Dropout(0.5)).train()
    module[0].bias.requires_grad_(False)
    gradient = module[0].weight.grad = torch.ones_like(module[0].weight)
    curvature = Curvature(module, torch.nn.CrossEntropyLoss(), UNEVEN, dtype="float64", parameters="*.weight")
    curvature.spectrum(top_k=1, fresh_starts=0)
    operator = curvature.operator
    products = [operator.matvec(torch.ones(operator.size, dtype=torch.float64)) for _ in range(2)]
    assert torch.equal(*products)
    assert (operator.size, operator.dtype) == (32, torch.float64)
    assert all(part.training for part in module.modules())
    assert module[0].weight.dtype is torch.float32
    assert module[0].weight.grad is gradient
    assert [p.requires_grad for p in module.parameters()] == [True, False, True, True]


@pytest.mark.parametrize("operator", ["hessian", "ggn", "empirical_fisher"])
def test_scipy_takes_the_operator_and_agrees(operator):
    """ARPACK in float64 to 1e-10; ours certified to 1e-6 of the largest."""
    curvature = Curvature(
        classifier(), torch.nn.CrossEntropyLoss(), UNEVEN, operator=operator, dtype="float64"
    )
    found = eigsh(curvature.to_scipy(), k=3, which="LM", return_eigenvectors=False)
    expected = sorted(found, key=abs, reverse=True)
    result = curvature.spectrum(top_k=3, ends=1, tolerance=1e-6)
    assert result.eigenvalues[:3] == pytest.approx(expected, rel=1e-5)


def test_an_eigenvector_is_named_by_parameter_and_is_one():
    curvature = Curvature(classifier(), torch.nn.CrossEntropyLoss(), UNEVEN)
    with pytest.raises(BadInput, match="no eigenvector 1: 0 eigenvalues are known"):
        curvature.eigenvector(1)
    result = curvature.spectrum(top_k=2, tolerance=1e-4)
    parts = curvature.eigenvector(2)
    assert {name: part.shape for name, part in parts.items()} == {
        name: p.shape for name, p in curvature.model.named_parameters()
    }
    vector = torch.cat([part.reshape(-1) for part in parts.values()])
    residual = curvature.operator.matvec(vector) - result["eigenvalue 2"].value * vector
    assert float(vector.norm()) == pytest.approx(1, abs=1e-6)
    assert float(residual.norm()) <= 1e-4 * abs(result.eigenvalues[0])


def test_a_result_is_a_table_a_dictionary_and_a_picture():
    curvature = Curvature(classifier(), torch.nn.CrossEntropyLoss(), UNEVEN, operator="ggn")
    result = curvature.measure(density={"probes": 2, "steps": 4})
    text = repr(result)
    assert text.startswith("Gauss-Newton matrix of a mean loss of 1.")
    assert "lambda_max" in text
    assert "condition_number: lambda_min = " in text
    assert "<table>" in result._repr_html_()
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["facts"]["operator"] == "ggn"
    assert {record["quantity"] for record in plain["quantities"]} >= {"lambda_max", "trace"}
    drawn = result.plot()
    assert ElementTree.fromstring(drawn.data).tag.endswith("svg")
    assert drawn._repr_png_() is None
    assert result.plot("png")._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(KeyError, match="lambda_max"):
        result["lambda"]


def test_a_measured_module_dies_with_its_last_reference():
    def measured() -> weakref.ref[torch.nn.Module]:
        module = classifier()
        curvature = Curvature(module, torch.nn.CrossEntropyLoss(), [(X, Y)], operator="ggn")
        curvature.operator.matvec(torch.ones(39))
        curvature.spectrum(top_k=1, fresh_starts=0)
        return weakref.ref(module)

    gc.disable()
    try:
        assert measured()() is None, "a reference cycle holds the module"
    finally:
        gc.enable()


class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = classifier()

    def forward(self, x):
        return self.inner(torch.nn.functional.dropout(x, 0.5, training=True))


CE = torch.nn.CrossEntropyLoss()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Curvature(classifier(), CE, []), "the data hold no batch"),
        (lambda: Curvature(classifier(), CE, X), "type Tensor holds no batches"),
        (lambda: Curvature(classifier(), CE, [X, X, X]), "a batch is a Tensor"),
        (lambda: Curvature(classifier(), CE, [(X, Y, Y)]), "a batch is a tuple of 3"),
        (lambda: Curvature(classifier(), None, UNEVEN), "without a loss"),
        (lambda: Curvature(classifier(), CE, [(X, torch.full((23,), -100))]), "no scored target"),
        (lambda: Curvature(classifier(), CE, UNEVEN, reduction="sum"), "has reduction 'mean', not 'sum'"),
        (lambda: Curvature(classifier(), torch.nn.CrossEntropyLoss(reduction="none"), UNEVEN), "'none'"),
        (lambda: Curvature(lambda x: x, CE, UNEVEN), "the model is a function"),
        (lambda: Curvature(classifier(), CE, UNEVEN, operator="fisher"), "operator: 'fisher' is not one of"),
        (lambda: Curvature(classifier(), CE, UNEVEN, parameters="*.wieght").loss(), "matches no parameter"),
        (lambda: Curvature(classifier(), lambda z, y: z, UNEVEN).loss(), r"the loss has shape \[16, 3\]"),
        (lambda: Curvature(Noisy(), CE, UNEVEN).spectrum(), "not deterministic"),
        (lambda: Curvature(classifier(), CE, UNEVEN).spectrum(top_k=0), "top_k: 0 is less than"),
        (lambda: Curvature(classifier(), CE, UNEVEN).measure(topk=3), "no parameter 'topk'"),
        (lambda: Curvature(classifier(), CE, UNEVEN).measure(operator="ggn"), "operator cannot be chosen"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(call, message):
    with pytest.raises(BadInput, match=message):
        call()


def test_a_loss_that_is_not_finite_names_its_batch():
    wild = [UNEVEN[0], (X[16:] * float("inf"), Y[16:])]
    with pytest.raises(InstrumentFailed, match=r"batch 1: the loss is nan"):
        Curvature(classifier(), CE, wild).spectrum()


def test_a_call_that_was_refused_leaves_the_next_one_be():
    curvature = Curvature(classifier(), CE, UNEVEN)
    with pytest.raises(BadInput):
        curvature.measure(operator="ggn")
    with pytest.raises(BadInput):
        curvature.spectrum(top_k=2, tolerance=5.0)
    assert curvature.trace(max_probes=2)["trace"].num_samples == 2


def test_the_package_is_imported_without_torch():
    code = "import sys, atlas_pyhessian; dir(atlas_pyhessian); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
