"""Slices of checkpoints: their keys, and what is not measured twice."""

from __future__ import annotations

import torch
from atlas_lossyscape.members import Finished, measure_members
from lossyscape_desk import Desk, items

from atlas.contracts import Slice
from atlas.errors import InstrumentFailed
from atlas.quantities import Quantity

SLICES = tuple(Slice(key, items(key)) for key in ("a", "b"))
PARAMS = {"parameters": ["*"], "batch_size": 4}


class Weights:
    """A target of one number."""

    facts: dict = {}  # noqa: RUF012 # never changed

    def __init__(self, value: float):
        self.module = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.module.weight, value)


def at(keep, **members: float) -> Desk:
    return Desk(keep, {label: Weights(value) for label, value in members.items()}, SLICES, PARAMS)


def alone(keep, value: float) -> Desk:
    return at(keep, **{"": value})


def attempt(desk, *, broken: str = ""):
    """Measure the weight of every slice; return the keys of those that were measured now."""
    measured = []

    def begin(target):
        def measure_slice(site):
            if site.part.key == broken:
                raise InstrumentFailed("broken", where="here")
            measured.append(site.part.key)
            finished = Finished(tables={"weights": [{"weight": float(target.module.weight.detach())}]})
            finished.record(Quantity("weight", 1.0, 0.0, "exact", slice=site.part.key))
            return finished

        return measure_slice

    try:
        measure_members(desk, begin, ("weights",))
    except InstrumentFailed as error:
        return measured, str(error.where)
    return measured, ""


def test_a_slice_that_an_interrupted_attempt_finished_is_not_measured_again(tmp_path):
    first = attempt(alone(tmp_path, 2.0), broken="b")
    desk = alone(tmp_path, 2.0)
    second = attempt(desk)

    assert (first, second) == ((["a"], "here"), (["b"], ""))
    assert [q.slice for q in desk.quantities] == ["a", "b"]
    assert desk.tables["weights"] == [{"slice": "a", "weight": 2.0}, {"slice": "b", "weight": 2.0}]
    assert "resumed.a" in desk.facts


def test_what_was_measured_of_other_weights_is_not_taken(tmp_path):
    attempt(alone(tmp_path, 2.0), broken="b")

    assert attempt(alone(tmp_path, 3.0)) == (["a", "b"], "")


def test_a_series_is_known_by_checkpoint_and_slice_and_a_failure_names_the_checkpoint(tmp_path):
    desk = at(tmp_path, step1=1.0, step2=2.0)

    assert attempt(desk)[0] == ["step1: a", "step1: b", "step2: a", "step2: b"]
    assert [row["weight"] for row in desk.tables["weights"]] == [1.0, 1.0, 2.0, 2.0]
    assert attempt(at(tmp_path / "new", step1=1.0), broken="step1: b")[1] == "checkpoint step1, here"
