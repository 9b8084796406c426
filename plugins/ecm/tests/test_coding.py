import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from atlas_ecm.agreement import agreement
from atlas_ecm.coding import code
from click.testing import CliRunner
from nltk.metrics.agreement import AnnotationTask

from atlas.errors import BadInput
from atlas.judgements import Judgements, blank_tables, judgements
from atlas.run.workspace import LocalWorkspace
from atlas.tables import Column, TableSchema

SESSIONS = TableSchema(
    "sessions",
    1,
    "Sessions.",
    (
        Column("session", "string", "Session.", required=True),
        Column("output", "string", "What the model said."),
        Column("line", "integer", "Line."),
        Column("token_ratio", "number", "R."),
        Column("economy", "string", "Side of the boundary.", enum=("Surgical", "Verbose")),
        Column("stance", "string", "Stance.", enum=("Compliant", "Combative"), judgement=True),
        Column("resolution_code", "string", "Code.", enum=("FLAT", "HOLD", "LOCK", "REJT"), judgement=True),
    ),
    ("session",),
)
IDS = [f"s{number}" for number in range(1, 5)]


@pytest.fixture
def workspace(tmp_path):
    return LocalWorkspace(tmp_path / "runs")


@pytest.fixture
def run(workspace):
    rows = [
        {
            "session": name,
            "output": f"Both sides of {name} have a point.",
            "line": 41,
            "token_ratio": 7.25,
            "economy": "Verbose",
        }
        for name in IDS
    ]
    return workspace.create_record(
        "ECM",
        "SML",
        tables={"sessions": (SESSIONS, rows)},
        files={"answer.md": b"session,stance,resolution_code\ns1,Combative,LOCK\n"},
        facts={"a": "b"},
    )


def invoke(workspace, *words, **options):
    options = {"catch_exceptions": False, "obj": workspace, **options}
    return CliRunner().invoke(code, [str(word) for word in words], **options).output


def codes(workspace, run):
    view = workspace.view(run)
    return {
        coder: {key[0]: dict(cells) for key, cells in found.values.items()}
        for coder, found in judgements(view, blank_tables(view)[0]).items()
    }


def filled(path, stances, resolutions, separator=",", encoding="utf-8-sig"):
    rows = [separator.join(("session", "resolution_code", "stance"))]
    rows += [separator.join(cells) for cells in zip(IDS, resolutions.split(), stances.split(), strict=True)]
    path.write_text("\n".join(rows).replace("-", ""), encoding=encoding)
    return path


def test_a_template_filled_in_by_two_coders_gives_their_codes_and_agreement(workspace, run, tmp_path):
    path = tmp_path / "codes.csv"
    invoke(workspace, run, "--template", path)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["session", "stance", "resolution_code"],
            *([name, "", ""] for name in IDS),
        ]
    first = filled(tmp_path / "a.csv", "Compliant combative - Combative", "FLAT HOLD HOLD LOCK", ";")
    second = filled(
        tmp_path / "b.csv", "Compliant Combative Compliant -", "FLAT HOLD HOLD REJT", "\t", "utf-16"
    )

    invoke(workspace, run, "--coder", "A", "--file", first)
    invoke(workspace, run, "--coder", "B", "--file", second)

    shown = invoke(workspace, run)
    assert codes(workspace, run)["A"] == {
        "s1": {"stance": "Compliant", "resolution_code": "FLAT"},
        "s2": {"stance": "Combative", "resolution_code": "HOLD"},
        "s3": {"resolution_code": "HOLD"},
        "s4": {"stance": "Combative", "resolution_code": "LOCK"},
    }
    assert "A: 3 stance, 4 resolution_code" in shown
    assert "alpha_stance: 1.000 (95%" in shown
    assert "alpha_resolution_code: 0.6" in shown


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("session,stance\ns1,Compliant\n", "expected the columns session, stance, resolution_code"),
        ("session,stance,resolution_code\ns1,Compliant,MAYBE\n", "'MAYBE' is none of FLAT, HOLD, LOCK, REJT"),
        ("session,stance,resolution_code\ns1,Compliant\n", "expected 3 cells"),
        ("session,stance,resolution_code\ns1,,FLAT\ns1,,HOLD\n", "s1 stands in line 2 already"),
        ("session,stance,resolution_code\ns9,,FLAT\n", "there is no such row"),
    ],
)
def test_a_faulty_file_of_codes_seals_nothing(workspace, run, tmp_path, content, problem):
    path = tmp_path / "codes.csv"
    path.write_text(content)

    with pytest.raises(BadInput, match=problem):
        invoke(workspace, run, "--coder", "A", "--file", path)

    assert codes(workspace, run) == {}


# Nothing automatic gives a code


def test_what_the_run_itself_holds_is_no_coders_file(workspace, run):
    # A model may well have written codes in the very form that a coder's file has.
    with pytest.raises(BadInput, match=r"answer\.md of the run itself; codes come from a person"):
        invoke(workspace, run, "--coder", "A", "--file", workspace.runs / run / "raw/ecm/answer.md")

    assert codes(workspace, run) == {}


def test_codes_are_not_taken_from_a_pipe(workspace, run):
    with pytest.raises(BadInput, match="given by a person at a terminal"):
        invoke(workspace, run, "--coder", "A", input="Compliant\nFLAT\n" * 4)

    assert codes(workspace, run) == {}


def test_a_file_of_codes_without_a_coder_is_refused(workspace, run, tmp_path):
    path = filled(tmp_path / "a.csv", "Compliant - - -", "FLAT HOLD HOLD LOCK")

    with pytest.raises(BadInput, match="needs its coder"):
        invoke(workspace, run, "--file", path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminal in the standard library")
def test_a_coder_is_asked_session_by_session_and_may_stop_and_go_on(workspace, run):
    def at_terminal(answers):
        import pty

        ours, theirs = pty.openpty()
        os.write(ours, answers.encode())
        command = [sys.executable, "-c", "from atlas.cli import main; main()", "code", run, "--coder", "A"]
        ended = subprocess.run(
            command,
            stdin=theirs,
            capture_output=True,
            text=True,
            cwd=workspace.runs.parent,
            timeout=60,
            check=False,
        )
        os.close(ours)
        os.close(theirs)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    shown = at_terminal("compliant\nFLAT\n-\nHOLD\nq\n")
    again = at_terminal("Combative\nq\n")

    assert "Both sides of s1 have a point.\n  line: 41\n" in shown
    assert not {"7.25", "Verbose"} & set(shown.split())  # what was computed would lead the coder
    assert "s1" not in again.split("next:")[0].replace("sealed", "")
    assert codes(workspace, run)["A"] == {
        "s1": {"stance": "Compliant", "resolution_code": "FLAT"},
        "s2": {"resolution_code": "HOLD", "stance": "Combative"},
    }


# Agreement


def coders(**values):
    return {
        coder: Judgements(coder, {(str(n),): {"c": v} for n, v in enumerate(given) if v != "."}, ())
        for coder, given in values.items()
    }


def test_alpha_of_krippendorffs_own_example_is_the_published_one():
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section D: nominal, 0.743.
    given = {"a": "123321412...", "b": "1233224125.3", "c": ".3332342251.", "d": "12332441251."}

    found = agreement(coders(**given), "c")

    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.low < found.value < found.high
    assert found.num_samples == 11


def test_the_interval_of_alpha_is_as_wide_as_alpha_varies_between_draws_of_sessions():
    # Oracle: the standard deviation of alpha over 300 fresh draws of 100 sessions by two coders who agree on
    # purpose with probability 0.7 and else guess; known to 4%. A width varies by some 15% between draws, so
    # that the mean of three is within 25%.
    generator = np.random.default_rng(5)

    def draw():
        first = generator.integers(2, size=100)
        second = np.where(generator.random(100) < 0.7, first, generator.integers(2, size=100))
        return tuple("".join(map(str, codes)) for codes in (first, second))

    drawn = [
        AnnotationTask(
            data=[(c, n, v) for c, codes in enumerate(draw()) for n, v in enumerate(codes)]
        ).alpha()
        for _ in range(300)
    ]

    found = [agreement(coders(a=first, b=second), "c") for first, second in (draw(), draw(), draw())]

    widths = [quantity.uncertainty for quantity in found]
    assert np.mean(widths) == pytest.approx(1.96 * np.std(drawn), rel=0.25)
    assert np.mean(drawn) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize(
    ("values", "kind", "note"),
    [
        ({"a": "11", "b": ".."}, "undefined", "no row was judged by two coders"),
        ({"a": "11", "b": "11"}, "undefined", "every code is the same"),
        ({"a": "12", "b": "2."}, "uncertified", "one row"),
    ],
)
def test_agreement_that_cannot_be_computed_says_why(values, kind, note):
    found = agreement(coders(**values), "c")

    assert found.uncertainty_kind.value == kind
    assert note in found.note
