from __future__ import annotations

import pytest
from atlas_cisp.gates import GATES, READS, complete, template
from atlas_cisp.policy import CispPolicy
from cisp_stories import READS as TEXTS
from cisp_stories import TICKED, Tell

POLICY = CispPolicy({"use": "cisp", "version": "1.1"})


def test_the_gates_stand_in_the_order_of_the_protocol() -> None:
    assert [(g.id, g.stage, g.binds_seed) for g in POLICY.gates()] == [
        ("sanitisation", "measure", False),
        ("read-0", "measure", True),
        ("read-1", "interpret", False),
        ("read-2", "close", False),
    ]


@pytest.mark.parametrize("gate", [g.id for g in GATES])
def test_an_untouched_template_is_no_answer(gate: str) -> None:
    assert complete(gate, template(gate)) != ()


@pytest.mark.parametrize("gate", READS)
@pytest.mark.parametrize(
    "text",
    ["", "\u200b\u00a0\n", "# Only\n\n## Headings\n", "ok", "<!-- I expect many words in a comment here -->"],
)
def test_emptiness_is_no_read(gate: str, text: str) -> None:
    assert complete(gate, text) != ()


@pytest.mark.parametrize("gate", READS)
def test_a_written_read_is_complete(gate: str) -> None:
    assert complete(gate, TEXTS[gate]) == ()


@pytest.mark.parametrize("gate", READS)
def test_a_read_with_byte_order_mark_and_crlf_is_judged_like_any_other(gate: str) -> None:
    assert complete(gate, "\ufeff# Read\r\n\r\n" + TEXTS[gate].replace("\n", "\r\n")) == ()


def test_a_read_in_chinese_counts_its_characters() -> None:
    assert complete("read-0", "我预计有争议的声明会给出更大的最大特征值。") == ()


def test_a_placeholder_left_standing_is_named_by_line() -> None:
    filled = template("read-0").replace("_write here_", TEXTS["read-0"].strip(), 2)
    (problem,) = complete("read-0", filled)
    assert (problem.where, problem.overridable) == (
        f"line {filled.splitlines().index('_write here_') + 1}",
        False,
    )


@pytest.mark.parametrize(
    "text",
    [
        TICKED,
        TICKED.replace("- [x]", "* [X]"),
        TICKED.replace("- [x]", "☑"),
        TICKED.replace("\n", "\r\n"),
        "\ufeff" + template("sanitisation").replace("[ ]", "[x]"),
    ],
    ids=["markdown", "stars", "signs", "crlf", "template"],
)
def test_a_sheet_with_every_line_ticked_is_complete(text: str) -> None:
    assert complete("sanitisation", text) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TICKED.replace("[x] S3.", "[ ] S3."), "S3 is not ticked"),
        (TICKED.replace("[x] S3.", "[no] S3."), "S3 is not ticked"),
        ("\n".join(line for line in TICKED.splitlines() if " S7." not in line), "S7 is missing"),
        (TICKED.replace("is fresh", "is nearly fresh"), "S1 was reworded"),
        (TICKED + "- [ ] S2. again\n", "S2 stands twice"),
    ],
)
def test_a_sheet_with_a_gap_is_refused_with_the_line(text: str, message: str) -> None:
    problems = complete("sanitisation", text)
    assert [p.message.startswith(message) for p in problems][:1] == [True]
    assert not any(p.overridable for p in problems)


def test_a_term_in_read_1_is_refused_before_it_is_sealed_and_may_be_signed(tell: Tell) -> None:
    text = TEXTS["read-1"] + "The loss landscape looks steep.\n"
    (problem,) = POLICY.review("read-1", text, tell())
    assert (problem.where, problem.overridable) == ("2:5", True)


def test_reads_0_and_2_never_reach_a_model_and_may_use_the_terms(tell: Tell) -> None:
    view = tell()
    for gate in ("read-0", "read-2"):
        assert POLICY.review(gate, TEXTS[gate] + "High viscosity, I think.\n", view) == ()
