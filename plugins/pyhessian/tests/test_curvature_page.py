"""The page on curvature runs as it stands, and a notebook's worth of work on two small models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from atlas_pyhessian import Curvature

PAGE = Path(__file__).parents[3] / "docs" / "curvature.md"


def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.S | re.M)
    names: dict[str, object] = {}
    for number, snippet in enumerate(snippets):
        exec(compile(snippet, f"{PAGE.name}, snippet {number}", "exec"), names)
    shown = re.search(r"```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.S | re.M)
    assert shown is not None
    expected, printed = shown.group(1).splitlines(), capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in printed[: len(expected)]] == [
        line.split(" ")[0] for line in expected
    ]
    assert (tmp_path / "density.png").read_bytes().startswith(b"\x89PNG")
    assert max(names["largest"]) == pytest.approx(names["everything"]["lambda_max"].value, rel=1e-3)


def test_a_session_on_a_convolutional_network(tmp_path):
    """Train a little, measure, look along the sharpest direction, train on, measure again."""
    torch.manual_seed(0)
    bars = torch.zeros(60, 1, 6, 6)
    targets = torch.arange(60) % 2
    for image, target in zip(bars, targets, strict=True):
        place = int(torch.randint(0, 6, ()))
        image[0, place if target else slice(None), slice(None) if target else place] = 1.0
    bars += 0.3 * torch.randn(bars.shape)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(48, 2)
    )
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)

    def train(steps):
        model.train()
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model(bars), targets).backward()
            optimizer.step()

    train(20)
    curvature = Curvature(model, loss, zip(bars.split(25), targets.split(25), strict=True))
    first = curvature.spectrum(top_k=2)
    sharpest, value = curvature.eigenvector(1), first["eigenvalue 1"].value

    def along(step):
        """The loss a step along the sharpest direction, in float64."""
        parameters = {n: p.detach().double() + step * sharpest[n] for n, p in model.named_parameters()}
        return float(loss(torch.func.functional_call(model, parameters, (bars.double(),)), targets))

    second_difference = (along(0.02) - 2 * along(0.0) + along(-0.02)) / 0.02**2
    assert second_difference == pytest.approx(value, rel=1e-2), "to the fourth derivative times the step"
    train(60)
    second = curvature.spectrum(top_k=2)
    assert second.facts["loss"] < first.facts["loss"]
    assert second.eigenvalues != first.eigenvalues
    ggn = Curvature(model, loss, (bars, targets), operator="ggn").measure(top_k=2, density=False)
    gap = ggn["trace"].value - curvature.trace()["trace"].value
    assert ggn["lambda_min"].value >= -ggn["lambda_min"].uncertainty
    assert abs(gap) < ggn["trace"].value, "near a fit the outputs' own curvature counts for little"
    ggn.plot("png").save(tmp_path / "ggn.png")


@pytest.mark.parametrize("operator", ["hessian", "ggn", "empirical_fisher"])
def test_a_session_on_a_model_of_transformers(operator):
    """A tokenizer's batches go in as they are; all is out again, and the model trains on."""
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        num_labels=3,
    )  # fmt: skip
    model = hf.BertForSequenceClassification(config).train()
    batches = [
        hf.BatchEncoding(
            {
                "input_ids": torch.randint(0, 50, (count, 7)),
                "attention_mask": torch.ones(count, 7, dtype=torch.long),
                "labels": torch.arange(count) % 3,
            }
        )
        for count in (5, 3)
    ]
    curvature = Curvature(
        model, data=batches, parameters=["*.attention.*", "classifier.*"], operator=operator
    )
    result = curvature.measure(top_k=2, trace={"max_probes": 4}, density={"probes": 2, "steps": 6})
    assert all(row["converged"] for row in result.spectrum)
    assert result["trace"].low <= result["trace"].value <= result["trace"].high
    assert result.facts["samples"] == 8
    if operator == "empirical_fisher":
        assert int((torch.tensor(result.eigenvalues) > 0).sum()) <= 8
    assert set(curvature.eigenvector(1)) == {
        name
        for name, _ in model.named_parameters()
        if ".attention." in name or name.startswith("classifier.")
    }
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    model(**batches[0]).loss.backward()
