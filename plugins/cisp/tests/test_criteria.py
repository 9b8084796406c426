from __future__ import annotations

from typing import Any

import pytest
from atlas_cisp.policy import CispPolicy
from attrs import evolve
from cisp_stories import MOVES, QUANTITIES_MEASURED, Tell

from atlas.record import RunView

STABLE, LOSS, PACKAGE, READS, LINKS, RECORD = range(6)


def unmet(view: RunView) -> set[int]:
    found = CispPolicy(view.manifest["governance"]).criteria(view)
    assert all(c.otherwise is None and c.evidence for c in found)
    return {number for number, condition in enumerate(found) if not condition.met}


def test_a_whole_run_meets_all_six(tell: Tell) -> None:
    assert unmet(tell()) == set()


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        ({"quantities": (evolve(QUANTITIES_MEASURED[0], converged=False),)}, STABLE),
        (
            {
                "quantities": (
                    evolve(QUANTITIES_MEASURED[0], uncertainty=None, uncertainty_kind="uncertified"),
                )
            },
            STABLE,
        ),
        ({"loss_passed": False}, LOSS),
        ({"pairs_of_record": ()}, RECORD),
    ],
    ids=["not converged", "uncertified", "loss", "record"],
)
def test_a_criterion_that_fails_is_told_alone(tell: Tell, world: dict[str, Any], expected: int) -> None:
    assert unmet(tell(**world)) == {expected}


def test_a_run_without_eigenvalues_has_no_stable_ones(tell: Tell) -> None:
    assert unmet(tell(quantities=QUANTITIES_MEASURED[3:])) == {STABLE, LOSS}


def test_a_folder_of_another_name_is_no_package(tell: Tell) -> None:
    from atlas.record import open_record

    view = tell()
    other = view.root.rename(view.root.parent / "my-run")
    assert unmet(open_record(other)) == {PACKAGE}


def test_reads_come_before_any_comparison(tell: Tell) -> None:
    moves = [m for m in MOVES if m not in ("read-0",)]
    assert unmet(tell(moves)) == {READS}
