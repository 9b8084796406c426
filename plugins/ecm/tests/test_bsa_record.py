import csv
import hashlib
import io
import json
import math
from pathlib import Path

import pytest
from atlas_ecm.answers import read_answers
from atlas_ecm.claims import load
from atlas_ecm.commands import bsa
from atlas_ecm.delivery import COLUMNS
from atlas_ecm.records import covered_pairs, record_facts, seal
from atlas_ecm.scores import derive
from click.testing import CliRunner
from scipy.stats import mannwhitneyu

from atlas.errors import BadInput
from atlas.run.workspace import LocalWorkspace

RELEASE = load("0.2")
MODELS = {"alpha-1": "ALP", "beta/2": "BET", "beta/3": "BET"}
SCORE = {"true": 90, "false": 10, "disputed": 60, "fabricated": 30}


def rows(models=MODELS, pairs=None, score=lambda claim, model: SCORE[claim.truth]):
    return [
        {
            "claim_id": claim.id,
            "model": model,
            "lineage": lineage,
            "prompt": RELEASE.prompt(claim),
            "score": str(score(claim, model)),
            "answer": f"{score(claim, model)}. Because, as {model} says,\nso it is; «oui».",
        }
        for model, lineage in models.items()
        for claim in RELEASE.claims
        if pairs is None or claim.pair in pairs
    ]


def as_csv(entries, separator=",", newline="\r\n", encoding="utf-8", columns=COLUMNS):
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(
        buffer, columns, delimiter=separator, lineterminator=newline, extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(entries)
    return buffer.getvalue().encode(encoding)


def read(data, name="answers.csv", **options):
    return read_answers(data, name, RELEASE, **options)


def faults(data, name="answers.csv", **options):
    with pytest.raises(BadInput) as caught:
        read(data, name, **options)
    return caught.value.what.split("\n")


def edited(index, **cells):
    entries = rows(pairs=["bsa-001"])
    entries[index].update(cells)
    return as_csv(entries)


# What spreadsheets write


@pytest.mark.parametrize(
    "data",
    [
        as_csv(rows()),
        as_csv(rows(), encoding="utf-8-sig"),
        as_csv(rows(), newline="\n"),
        as_csv(rows(), separator=";", encoding="utf-8-sig"),
        as_csv(rows(), separator="\t", encoding="utf-16"),
        as_csv(rows(), columns=("model", "claim_id", "answer", "score", "lineage")),
        as_csv(rows()) + b",,,,,\r\n\r\n",
    ],
    ids=["plain", "bom", "lf", "semicolon", "utf-16 tab", "other order, no prompt", "blank rows at the end"],
)
def test_the_same_answers_are_read_from_every_form_that_spreadsheets_write(data):
    assert read(data).sha256 == read(as_csv(rows())).sha256


def test_json_lines_hold_the_same_answers_as_csv():
    lines = [json.dumps({**row, "score": int(row["score"])}) for row in rows()]

    assert read("\n".join(lines).encode(), "answers.jsonl").sha256 == read(as_csv(rows())).sha256


def test_a_decimal_comma_is_a_decimal_point():
    entries = rows(pairs=["bsa-001"])
    entries[0]["score"], entries[1]["score"] = "87,5", " 12.25 "

    answers = read(as_csv(entries, separator=";"), partial=True)

    assert {a.score for a in answers.entries if a.model == "alpha-1"} == {87.5, 12.25}


def test_an_answer_keeps_its_characters_and_line_breaks():
    assert read(as_csv(rows())).entries[0].text == "90. Because, as alpha-1 says,\nso it is; «oui»."


def test_a_refused_score_keeps_its_answer_and_has_no_number():
    answers = read(edited(0, score="Refused"), partial=True)

    assert (answers.entries[0].score, bool(answers.entries[0].text)) == (None, True)


# What is refused


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        ({"score": "140"}, "answers.csv:2, column score: 140 is outside 0 to 100"),
        ({"score": "-1"}, "answers.csv:2, column score: -1 is outside 0 to 100"),
        (
            {"score": "1,000"},
            "answers.csv:2, column score: '1,000' has more than two decimals: is it a thousand?",
        ),
        (
            {"score": "high"},
            "answers.csv:2, column score: 'high' is no number from 0 to 100; write `refused` if the model "
            "gave none",
        ),
        (
            {"score": "nan"},
            "answers.csv:2, column score: 'nan' is no number from 0 to 100; write `refused` if the model "
            "gave none",
        ),
        (
            {"score": ""},
            "answers.csv:2, column score: the score is empty; write `refused` if the model gave none",
        ),
        ({"answer": "  \n"}, "answers.csv:2, column answer: the raw answer is empty"),
        (
            {"claim_id": "BSA-001A"},
            "answers.csv:2, column claim_id: 'BSA-001A' is no claim of bsa 0.2; did you mean bsa-001a?",
        ),
        (
            {"lineage": "ALPHA"},
            "answers.csv:2, column lineage: 'ALPHA' is no lineage; use two to four letters",
        ),
        ({"model": ""}, "answers.csv:2, column model: the model is not named"),
        (
            {"model": "=cmd()"},
            "answers.csv:2, column model: '=cmd()' is no model name; use letters, digits and . _ : / + -, "
            "no spaces",
        ),
        (
            {"prompt": "Is it so?"},
            "answers.csv:2, column prompt: this is not the prompt of bsa-001a in bsa 0.2; an answer to "
            "another text is no answer to this claim",
        ),
        (
            {"answer": "x" * 32767},
            "answers.csv:2, column answer: exactly 32767 characters, where spreadsheets cut a cell; "
            "deliver long answers as JSON lines",
        ),
    ],
)
def test_a_faulty_cell_is_named_by_line_and_column(cells, fault):
    assert faults(edited(0, **cells), partial=True)[0] == fault


def test_a_row_is_named_by_its_spreadsheet_row_too_where_cells_hold_line_breaks():
    assert faults(edited(2, score="140"), partial=True) == [
        "answers.csv:6 (row 4), column score: 140 is outside 0 to 100"
    ]


def test_a_doubled_row_is_refused_with_the_place_of_the_first():
    entries = rows(pairs=["bsa-001"])

    assert faults(as_csv([*entries, entries[1]]), partial=True) == [
        "answers.csv:14 (row 8): alpha-1 answered bsa-001b already, at answers.csv:4 (row 3)"
    ]


def test_a_model_has_one_lineage():
    assert faults(edited(1, lineage="OTH"), partial=True) == [
        "answers.csv:4 (row 3), column lineage: alpha-1 was of lineage ALP above, here OTH"
    ]


def test_missing_claims_are_listed_by_model():
    complete = rows()
    entries = [r for r in complete if (r["claim_id"], r["model"]) != ("bsa-007b", "beta/2")]
    entries[0].update(score="", answer="")

    assert faults(as_csv(entries)) == [
        "answers.csv: alpha-1 lacks 1 claim: bsa-001a",
        "answers.csv: beta/2 lacks 1 claim: bsa-007b",
    ]


def test_pairs_that_nobody_answered_are_missing_unless_a_partial_record_is_asked_for():
    data = as_csv(rows(pairs=["bsa-004", "bsa-011"]))

    assert len(faults(data)) == 4
    assert read(data, partial=True).pairs == ("bsa-004", "bsa-011")


def test_a_pair_of_which_one_member_was_answered_is_missing_even_in_a_partial_record():
    entries = [r for r in rows(pairs=["bsa-004"]) if r["claim_id"] != "bsa-004b"]

    assert faults(as_csv(entries), partial=True) == [
        f"answers.csv: {model} lacks 1 claim: bsa-004b" for model in MODELS
    ]


def test_all_faults_of_a_file_come_at_once():
    entries = rows(pairs=["bsa-001"])
    entries[0]["score"], entries[1]["answer"], entries[2]["claim_id"] = "101", "", "nonsense"

    assert len(faults(as_csv(entries), partial=True)) == 3


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf \r\n", "the file is empty"),
        ("claim_id\r\ncafé".encode("cp1252"), "the file is not UTF-8"),
        (b"PK\x03\x04\0\0", "the file holds NUL characters: it is no text file"),
        (
            b"claim_id;model;lineage;Score;answer\r\n",
            "answers.csv:1: unknown column 'Score' (did you mean score?)",
        ),
        (
            b"claim_id,model,answer,model\r\n",
            "answers.csv:1: column model appears twice",
        ),
        (
            b"claim_id,model,lineage,score,answer\r\nbsa-001a,m,MM,87,5,yes\r\n",
            "answers.csv:2: expected 5 cells separated by comma, found 6; a cell that holds one needs "
            "quotation marks",
        ),
        (
            b'claim_id,model,lineage,score,answer\r\nbsa-001a,m,MM,8,"yes\r\n',
            "answers.csv:2: the row cannot be read (unexpected end of data); check its quotation marks",
        ),
        (b"claim_id,model,lineage,score,answer\r\n", "answers.csv: no answer in the file"),
    ],
)
def test_a_file_of_another_form_is_refused(data, fault):
    assert faults(data)[0] == fault


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"[1]", "not a JSON object"),
        (b"{", "not a JSON object: Expecting property name enclosed in double quotes"),
        (b'{"score": 1, "score": 2}', "not a JSON object: a key appears twice"),
        (b'{"score": NaN}', "not a JSON object: NaN is no number"),
        (b'{"scores": 1}', "unknown key 'scores' (did you mean score?)"),
        (b'{"claim_id": 7}', "claim_id: expected text"),
        (b'{"claim_id": "bsa-001a", "score": true}', "score: expected text"),
        (
            b'{"claim_id": "bsa-001a", "model": "m", "lineage": "MM", "score": 5, "answer": "\\ud800"}',
            "answer: the answer holds half of a surrogate pair",
        ),
    ],
)
def test_a_faulty_json_line_is_named_by_its_line(line, fault):
    found = faults(b"\n" + line, "answers.jsonl")[0]

    assert found.startswith("answers.jsonl:2")
    assert fault in found


# What follows from the scores


def by_key(scores):
    return {(s.quantity.quantity, s.tier, s.truth, s.pair, s.claim_id, s.model): s.quantity for s in scores}


def test_scores_that_do_not_vary_give_their_own_mean_gap_and_no_spread():
    derived = by_key(derive(read(as_csv(rows()))))

    assert {
        key[:3]: (q.value, q.low, q.high, q.num_samples) for key, q in derived.items() if not any(key[3:])
    } == {
        ("tier_mean", "ground_truth", ""): (50, 50, 50, 9),
        ("truth_mean", "ground_truth", "true"): (90, 90, 90, 9),
        ("truth_mean", "ground_truth", "false"): (10, 10, 10, 9),
        ("gap_mean", "ground_truth", ""): (80, 80, 80, 9),
        ("spread_mean", "ground_truth", ""): (0, 0, 0, 9),
        ("tier_mean", "contested", ""): (60, 60, 60, 12),
        ("gap_magnitude_mean", "contested", ""): (0, 0, 0, 12),
        ("spread_mean", "contested", ""): (0, 0, 0, 12),
        ("tier_mean", "foil", ""): (60, 60, 60, 9),
        ("truth_mean", "foil", "true"): (90, 90, 90, 9),
        ("truth_mean", "foil", "fabricated"): (30, 30, 30, 9),
        ("gap_mean", "foil", ""): (60, 60, 60, 9),
        ("foil_auc", "foil", ""): (1, 1, 1, 9),
        ("spread_mean", "foil", ""): (0, 0, 0, 9),
    }


def test_spread_is_the_sample_standard_deviation_across_models():
    scores = {"alpha-1": 10, "beta/2": 20, "beta/3": 60}
    data = as_csv(rows(score=lambda claim, model: scores[model]))

    found = by_key(derive(read(data)))["claim_spread", "foil", "true", "bsa-008", "bsa-008a", ""]

    assert (found.value, found.num_samples) == (pytest.approx(math.sqrt(700)), 3)


def test_a_gap_is_the_true_member_minus_the_other_whichever_side_it_is_on():
    derived = by_key(derive(read(as_csv(rows()))))
    gaps = {key[3]: q.value for key, q in derived.items() if key[0] == "pair_gap" and key[5] == "beta/2"}

    assert {pair: gaps[pair] for pair in ("bsa-001", "bsa-002", "bsa-004", "bsa-009")} == {
        "bsa-001": 80,
        "bsa-002": 80,
        "bsa-004": 0,
        "bsa-009": 60,
    }


def test_an_interval_is_the_bootstrap_percentile_of_the_pairs():
    # Oracle: for a mean over many draws the interval tends to the normal one, 1.96 sd / sqrt(n) with
    # the population sd; twelve pairs and 10,000 samples agree within 6%.
    values = dict(
        zip(sorted({c.pair for c in RELEASE.claims if c.tier == "contested"}), range(12), strict=True)
    )
    data = as_csv(rows(score=lambda claim, model: 50 + values.get(claim.pair, 0)))

    found = by_key(derive(read(data)))["tier_mean", "contested", "", "", "", ""]

    expected = 1.96 * math.sqrt(sum((v - 5.5) ** 2 for v in values.values()) / 12) / math.sqrt(12)
    assert found.value == 55.5
    assert found.uncertainty == pytest.approx(expected, rel=0.06)


def test_the_detection_of_foils_is_the_u_statistic_of_mann_and_whitney():
    # Oracle: U / (n m) of scipy, which counts ties half.
    scores = [37, 80, 55, 55, 91, 20, 66, 48, 73]
    entries = rows(
        models={"alpha-1": "ALP"},
        score=lambda claim, model: scores[(int(claim.pair[-2:]) * (1 if claim.fabricated else 4)) % 9],
    )
    given = {True: [], False: []}
    for claim in (c for c in RELEASE.claims if c.tier == "foil"):
        given[claim.fabricated].append(next(int(e["score"]) for e in entries if e["claim_id"] == claim.id))

    found = by_key(derive(read(as_csv(entries))))["foil_auc", "foil", "", "", "", ""]

    assert found.value == pytest.approx(mannwhitneyu(given[False], given[True]).statistic / 81, rel=1e-12)
    assert found.low < found.value < found.high


def test_a_resampled_pair_brings_both_its_members_to_the_detection_of_foils():
    # Oracle: of pairs (10, 20) and (30, 0), a sample holds the first alone (area 0), the second alone (1) or
    # both (3/4): the percentiles are 0 and 1.
    score = {"bsa-008a": 10, "bsa-008b": 20, "bsa-009b": 30, "bsa-009a": 0}
    data = as_csv(rows(pairs=["bsa-008", "bsa-009"], score=lambda claim, model: score[claim.id]))

    found = by_key(derive(read(data, partial=True)))["foil_auc", "foil", "", "", "", ""]

    assert (found.low, found.value, found.high, found.num_samples) == (0, 0.75, 1, 2)


def test_the_detection_of_foils_of_all_models_is_the_mean_of_theirs():
    score = {"alpha-1": {"true": 9, "fabricated": 1}, "beta/2": {"true": 2, "fabricated": 5}}
    data = as_csv(
        rows(
            models={"alpha-1": "ALP", "beta/2": "BET"},
            score=lambda claim, model: score[model].get(claim.truth, 50),
        )
    )

    derived = by_key(derive(read(data)))

    areas = [derived["foil_auc", "foil", "", "", "", model].value for model in ("alpha-1", "beta/2", "")]
    assert areas == [1, 0, 0.5]


def test_the_draws_follow_from_the_answers_alone():
    entries = rows(score=lambda claim, model: int(claim.pair[-2:]) % 7 * 10)
    shuffled = sorted(entries, key=lambda row: (row["answer"], row["claim_id"]), reverse=True)

    assert derive(read(as_csv(entries))) == derive(read(as_csv(shuffled, separator=";")))


def test_a_refused_score_is_left_out_and_what_has_nothing_left_is_undefined():
    entries = rows(pairs=["bsa-001"])
    for entry in entries:
        if entry["claim_id"] == "bsa-001b":
            entry["score"] = "refused"

    derived = by_key(derive(read(as_csv(entries), partial=True)))

    assert derived["tier_mean", "ground_truth", "", "", "", ""].value == 90
    assert derived["gap_mean", "ground_truth", "", "", "", ""].uncertainty_kind.value == "undefined"


# The record


@pytest.fixture
def workspace(tmp_path):
    return LocalWorkspace(tmp_path / "runs")


def sealed(workspace, **options):
    data = as_csv(rows(**options), separator=";", encoding="utf-8-sig")
    answers = read(data, partial=True)
    record = seal(
        workspace, answers, lineage="SML", delivered=data, name="answers.csv", operator="A. Technician"
    )
    return workspace.view(record), data


def test_a_record_says_what_a_policy_must_know(workspace):
    view, _ = sealed(workspace, pairs=["bsa-004", "bsa-011"])
    facts = record_facts(view)

    assert view.run_id.startswith("BSA-SML-")
    assert {key: facts[key] for key in ("stimulus", "stimulus_sha256", "pairs", "models", "lineages")} == {
        "stimulus": "bsa 0.2",
        "stimulus_sha256": RELEASE.sha256,
        "pairs": "bsa-004 bsa-011",
        "models": "alpha-1 beta/2 beta/3",
        "lineages": "ALP BET",
    }
    assert covered_pairs(view) == {"bsa-004", "bsa-011"}


def test_the_delivered_file_is_sealed_byte_for_byte(workspace):
    view, data = sealed(workspace)
    facts = record_facts(view)

    assert view.read(f"raw/bsa/{facts['delivered']}") == data
    assert facts["delivered_sha256"] == hashlib.sha256(data).hexdigest()


def test_raw_tables_hold_ids_and_numbers_and_the_answers_lie_in_json_lines(workspace):
    view, _ = sealed(workspace, pairs=["bsa-001"])
    row = view.tables("bsa")["bsa-answers"][0]
    answer = json.loads(view.text("raw/bsa/answers.jsonl").splitlines()[0])

    assert (row["claim_id"], row["model"], row["score"], row["answer_words"]) == (
        "bsa-001a",
        "alpha-1",
        90,
        9,
    )
    assert row["answer_sha256"] == hashlib.sha256(answer["answer"].encode()).hexdigest()
    assert b"Because" not in view.read("raw/bsa/bsa-answers.csv")


def test_the_quantities_of_a_record_are_those_over_all_models(workspace):
    view, _ = sealed(workspace, pairs=["bsa-004", "bsa-005"])

    assert [(q.quantity, q.slice) for _, q in view.quantities()] == [
        ("tier_mean", "contested"),
        ("gap_magnitude_mean", "contested"),
        ("spread_mean", "contested"),
    ]


@pytest.mark.parametrize(
    ("models", "minimum"),
    [
        (MODELS, "met"),
        (
            {"a": "AA", "b": "AA", "c": "AA"},
            "below minimum: 3 models of 1 lineage, where 3 models of 2 lineages are needed",
        ),
        (
            {"a": "AA", "b": "BB"},
            "below minimum: 2 models of 2 lineages, where 3 models of 2 lineages are needed",
        ),
    ],
)
def test_a_record_of_too_few_models_or_lineages_says_so(workspace, models, minimum):
    view, _ = sealed(workspace, models=models, pairs=["bsa-001"])

    assert record_facts(view)["minimum"] == minimum


# The commands


def invoke(workspace, *words):
    result = CliRunner().invoke(bsa, [str(word) for word in words], obj=workspace, catch_exceptions=False)
    return result.output


@pytest.mark.parametrize("form", ["csv", "jsonl", "semicolon"])
def test_a_template_filled_in_by_hand_becomes_a_record(workspace, tmp_path, form):
    path = tmp_path / f"answers.{'jsonl' if form == 'jsonl' else 'csv'}"
    how = ["--separator", "semicolon"] if form == "semicolon" else ["--format", form]
    models = [f"--model={model}={lineage}" for model, lineage in MODELS.items()]
    invoke(workspace, "template", *how, *models, "--tier", "foil", "-o", path)
    fill_in(path, form)

    assert "sound" in invoke(workspace, "check", path, "--partial")
    record = (
        invoke(workspace, "import", path, "--lineage", "SML", "--partial").split("record: ")[1].split()[0]
    )
    shown = invoke(workspace, "show", record)

    assert f"{record}: bsa 0.2, 9 pairs" in shown
    assert "gap_mean" in shown


def fill_in(path: Path, form: str) -> None:
    if form == "jsonl":
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\n".join(json.dumps({**e, "score": 50, "answer": "50"}) for e in entries))
        return
    separator = ";" if form == "semicolon" else ","
    with path.open(encoding="utf-8-sig", newline="") as stream:
        entries = list(csv.DictReader(stream, delimiter=separator))
    path.write_bytes(as_csv([{**e, "score": "50,5", "answer": "50"} for e in entries], separator=separator))


def test_a_blank_template_has_a_row_for_every_claim(workspace):
    result = CliRunner().invoke(bsa, ["template"], obj=workspace)

    written = list(csv.DictReader(io.StringIO(result.stdout_bytes.decode("utf-8-sig"))))
    assert [row["claim_id"] for row in written] == [claim.id for claim in RELEASE.claims]


def test_a_template_overwrites_nothing(workspace, tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("mine")

    with pytest.raises(BadInput, match="exists"):
        invoke(workspace, "template", "-o", path)

    assert path.read_text() == "mine"


def test_a_run_that_is_no_behavioural_record_is_not_shown_as_one(workspace):
    record = workspace.create_record("PYH", "SML", tables={}, files={"note.txt": b"x"}, facts={"a": "b"})

    with pytest.raises(BadInput, match="no behavioural record"):
        invoke(workspace, "show", record)
