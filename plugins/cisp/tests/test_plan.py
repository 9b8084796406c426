from __future__ import annotations

import json
from typing import Any

import pytest
from atlas_cisp.plan import plan_problems
from atlas_cisp.policy import CispPolicy
from cisp_stories import MANIFEST


def phase(step: Any) -> str:
    return {"pyhessian": "measure", "synthesis": "interpret"}[step["use"]]


def changed(step: int, **changes: Any) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(json.dumps(MANIFEST))
    manifest["steps"][step].update(changes)
    return manifest


def sees(*sources: str) -> dict[str, Any]:
    return {"sees": [{"from": source} for source in sources]}


def test_the_documented_manifest_has_no_problem() -> None:
    assert plan_problems(MANIFEST, phase) == ()


@pytest.mark.parametrize(
    ("manifest", "where"),
    [
        (changed(1, **sees("curvature.raw", "read-1", "read-0")), "steps.synthesis.sees"),
        (changed(1, **sees("curvature.raw", "read-1", "read-2")), "steps.synthesis.sees"),
        (changed(1, **sees("curvature.raw", "read-1", "synthesis.answer")), "steps.synthesis.sees"),
        (changed(0, **sees("read-0")), "steps.curvature.sees"),
        (changed(0, **sees("synthesis.raw")), "steps.curvature.sees"),
    ],
)
def test_a_step_that_sees_too_much_is_refused(manifest: dict[str, Any], where: str) -> None:
    assert [(p.where, p.overridable) for p in plan_problems(manifest, phase)] == [(where, False)]


def test_the_tables_of_a_measurement_may_be_named_one_by_one() -> None:
    assert plan_problems(changed(1, **sees("curvature.quantities", "read-1")), phase) == ()


def role(name: str, *sources: str) -> dict[str, Any]:
    return {"id": name, "use": "synthesis", "params": {"role": name}, **sees(*sources)}


CHAIN = (
    role("planner"),
    role("prompt", "planner.answer"),
    role("analysis", "prompt.answer", "curvature.raw"),
)


def test_the_chain_of_the_protocol_has_no_problem() -> None:
    assert plan_problems({**MANIFEST, "steps": [*MANIFEST["steps"], *CHAIN]}, phase) == ()


@pytest.mark.parametrize(
    "more",
    [
        *[role("planner", source) for source in ("curvature.raw", "read-0", "read-1")],
        *[role("prompt", "planner.answer", source) for source in ("curvature.raw", "read-1")],
        *[role("analysis", "prompt.answer", source) for source in ("planner.answer", "read-1", "prompt.raw")],
        {**role("synthesis", "curvature.raw", "analysis.answer"), "id": "other"},
    ],
    ids=lambda step: f"{step['params']['role']} sees {step['sees'][-1]['from']}",
)
def test_a_role_that_is_given_more_than_its_own_is_refused(more: dict[str, Any]) -> None:
    steps = [*MANIFEST["steps"], *(step for step in CHAIN if step["id"] != more["id"]), more]

    problems = plan_problems({**MANIFEST, "steps": steps}, phase)

    assert [(p.where, p.overridable) for p in problems if not p.overridable] == [
        (f"steps.{more['id']}.sees", False)
    ]


@pytest.mark.parametrize(
    "manifest",
    [
        changed(0, isolation="inline"),
        changed(1, **sees("read-1")),
        {**MANIFEST, "steps": MANIFEST["steps"][:1]},
        {**MANIFEST, "governance": {"use": "cisp", "version": "1.1"}},
    ],
    ids=["inline", "no raw output", "no synthesis", "no record"],
)
def test_what_only_lowers_the_tier_is_a_note(manifest: dict[str, Any]) -> None:
    assert [p.overridable for p in plan_problems(manifest, phase)] == [True]


def test_the_policy_takes_phases_from_the_installed_cards() -> None:
    assert CispPolicy(MANIFEST["governance"]).review_plan(MANIFEST) == ()


def test_the_policy_names_the_records_of_the_manifest() -> None:
    options = {
        "use": "cisp",
        "version": "1.1",
        "ecm_record": "ECM-SML-20261101-002",
        "bsa_record": "BSA-SML-20261101-001",
    }
    assert CispPolicy(options).records() == ("BSA-SML-20261101-001", "ECM-SML-20261101-002")
