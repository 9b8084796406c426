import json
from pathlib import Path

import pytest
from atlas_ecm.reader.folder import Folder
from atlas_ecm.reader.measurement import session_row
from atlas_ecm.reader.preamble import REACH, preamble_of
from atlas_ecm.reader.tokens import WORDS

HERE = Path(__file__).parent


# Oracle: spans marked by hand before any rule was run on them. Edition 3 was written, and its points fitted,
# with the first four sets in view; the last was marked by another hand and opened once, after the rule was
# declared done. What is missed in the second and third set follows an older reading of what P counts.
@pytest.mark.parametrize(
    ("name", "exact", "of"),
    [
        ("ecm_hand_checked", 40, 40),
        ("ecm_held_out", 39, 40),
        ("ecm_held_out_2", 37, 40),
        ("ecm_fitted", 111, 120),
        ("ecm_held_out_3", 37, 60),
    ],
)
def test_of_the_marked_transcripts_as_many_preambles_are_exact_as_were_measured(name, exact, of):
    path = HERE / f"{name}.jsonl"
    known = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = [session_row(session, WORDS, "m") for session in Folder(path).sessions()]

    found = [
        (row["preamble"] or "") == one["span"] and row["preamble_words"] == one["span_words"]
        for row, one in zip(rows, known, strict=True)
    ]

    assert len(known) == of
    assert sum(found) >= exact


@pytest.mark.parametrize(
    "answer",
    [
        "Yes, it is.",
        "I'm sorry, but I can't help with that.",
        "Could you tell me which one you mean?",
        "Dear Ms Howe,\n\nthe parcel left today.",
        "# Mortgages\n\nA loan on a house.",
        "```python\nprint(1)\n```",
        "Well-known facts.",
    ],
)
def test_what_engages_the_task_is_no_preamble(answer):
    more = "\n\nRates rose by a third in 2022."

    assert preamble_of(answer + more, "What is a mortgage?").words == 0


def test_an_answer_of_one_clause_that_no_phrase_marks_is_the_answer():
    assert preamble_of("Glad.", "Give me a synonym for happy.").words == 0
    assert preamble_of("I'd be happy to help.", "Can you?").words == 5


def test_the_parts_of_a_preamble_are_named_in_order():
    answer = "Sure! Here is a list of ideas:\n\n- a lamp\n- a rug"

    assert preamble_of(answer, "What should I buy?").rules == ("courtesy", "announcement")


def test_a_word_that_the_prompt_has_adds_no_content():
    answer = "Zymurgy is fascinating. Yeast eats sugar and leaves alcohol."

    assert preamble_of(answer, "What is zymurgy?").span == "Zymurgy is fascinating."
    assert preamble_of(answer, "What do brewers do?").span == ""


def test_what_follows_a_colon_at_a_lines_end_is_what_was_announced():
    answer = "Of course, here's an apology:\n\nWe are sorry that you had to wait. It left today."

    assert preamble_of(answer, "Draft an apology.").span == "Of course, here's an apology:"


def test_an_answer_of_many_characters_is_looked_at_only_in_its_beginning():
    assert preamble_of("Sure! " * REACH, "Why?").words <= REACH // 6
