"""The instruments end to end: from a manifest to sealed tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from atlas_lossyscape.correlation import rarity_control
from atlas_lossyscape.newton_decrement import DecrementNoise
from atlas_lossyscape.potential import state_of

TEXTS = ["A cat sat on a mat.", "Rain fell all day.", "The sun rose late.", "No bird sang then."]


def manifest(model: Path, steps: list) -> str:
    return yaml.safe_dump(
        {
            "atlas": 1,
            "name": "tiny",
            "lineage": "TIN",
            "seed": 3,
            "governance": "none",
            "targets": {"lm": {"use": "hf", "path": str(model), "dtype": "float64"}},
            "stimulus": {"use": "text", "texts": TEXTS, "max_tokens": 12},
            "steps": steps,
        }
    )


@pytest.fixture
def run(atlas, tiny_model):
    """Run one step on the tiny model and return its quantities by name and its tables."""

    def carry_out(step: dict):
        atlas.write("m.yaml", manifest(tiny_model, [{"id": "it", "target": "lm", **step}]))
        outcome = atlas("run", "m.yaml")
        assert outcome.code == 0, outcome.err
        view = atlas.view(atlas.runs()[0].name)
        return {q.quantity: q for _, q in view.quantities()}, view.tables("it")

    return carry_out


def test_potential_of_a_language_model_is_measured_from_a_manifest(run):
    quantities, tables = run({"use": "potential", "params": {"krylov": 24, "tokens": 12}})

    (row,) = tables["potential"]
    assert row["descent"] > 0
    assert row["newton_krylov"] >= row["newton"] >= 0
    assert row["share_certified"] + row["share_open"] + row["share_negative"] == pytest.approx(1, abs=1e-9)
    assert len(tables["tokens"]) == 12
    assert quantities["potential_descent"].value == row["descent"]
    # Each drop that was taken is a step of the loss: they add up to the whole.
    taken = [step["drop"] for step in tables["descent"] if step["taken"]]
    assert sum(taken) == pytest.approx(row["descent"], rel=1e-9)


def test_the_tokens_losses_are_those_of_the_slice(run):
    quantities, tables = run({"use": "potential", "params": {"krylov": 8, "tokens": 1000}})

    losses = [row["loss"] for row in tables["tokens"]]

    assert np.mean(losses) == pytest.approx(quantities["loss"].value, rel=1e-6)


def test_a_state_needs_a_drop_of_two_standard_errors_above_its_noise():
    noise = DecrementNoise(standard_error=1.0, floor=3.0, batches=9)

    assert [state_of(drop, noise) for drop in (5.1, 4.9)] == ["charged", "discharged"]
    assert state_of(5.1, None) == "undetermined"


def test_a_correlation_that_rarity_makes_goes_once_rarity_is_partialled_out():
    # x and y are rarity plus independent noise; 95% of intervals hold the true partial correlation, 0.
    rng = np.random.default_rng(0)
    seen = holding = 0
    for _ in range(60):
        rarity = rng.normal(size=80)
        x, y = rarity + rng.normal(size=80), rarity + rng.normal(size=80)
        found = rarity_control(x, y, rarity, rng, resamples=300)
        seen += found.all.low > 0
        holding += found.partial.low <= 0 <= found.partial.high
    assert seen >= 54  # of a correlation of 0.5
    assert holding >= 50  # binomial(60, 0.95) falls below with probability 4e-4


def test_a_correlation_of_constant_values_is_undefined():
    rng = np.random.default_rng(0)
    assert rarity_control(np.ones(9), np.arange(9.0), np.arange(9.0), rng).all is None
