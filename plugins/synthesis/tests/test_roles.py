"""What each role's message is made of, and what no role lets in, whatever the manifest said."""

import pytest
from atlas_synthesis.roles import gather

from atlas.errors import BadInput

TABLE = b"quantity,value\r\nitems,24\r\n"
BLOCK = "## t.csv\n\n```csv\nquantity,value\nitems,24\n```\n"
SEEN = {
    "planner": {"stimulus/files/a.md": b"Context.\r\n"},
    "prompt": {"raw/plan/answer.md": b"\nAsk what is counted.\n\n"},
    "analysis": {"raw/prompt/answer.md": b"What is counted?", "raw/c/t.csv": TABLE},
    "synthesis": {"raw/c/t.csv": TABLE, "reads/read-1.md": b"Many.\n"},
}


def laid_out(folder, files):
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return {path: folder / path for path in files}


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("planner", "Context.\n"),
        ("prompt", "Ask what is counted.\n"),
        ("analysis", f"What is counted?\n\n{BLOCK}"),
        ("synthesis", f"{BLOCK}\n## Read\n\nMany.\n"),
    ],
)
def test_the_message_of_a_role_is_what_it_was_given_and_no_other_word(tmp_path, role, message):
    package, left = gather(role, laid_out(tmp_path, SEEN[role]))

    assert (package.upload.decode(), left) == (message, ())
    assert set(package.files) == set(SEEN[role])


def test_several_context_files_stand_under_their_names(tmp_path):
    files = {"stimulus/files/b/two.md": b"Two.", "stimulus/files/a.md": b"One."}

    package, _ = gather("planner", laid_out(tmp_path, files))

    assert package.upload.decode() == "## a.md\n\nOne.\n\n## b/two.md\n\nTwo.\n"


@pytest.mark.parametrize(
    ("role", "more"),
    [
        ("planner", "raw/c/t.csv"),
        ("planner", "reads/read-0.md"),
        ("prompt", "raw/c/t.csv"),
        ("prompt", "stimulus/files/a.md"),
        ("analysis", "reads/read-1.md"),
        ("analysis", "stimulus/files/a.md"),
        ("synthesis", "raw/analysis/answer.md"),
        ("synthesis", "stimulus/files/a.md"),
    ],
)
def test_a_role_lets_nothing_in_that_is_not_its_own(tmp_path, role, more):
    with pytest.raises(BadInput, match=f"a step of role {role} may not see {more}"):
        gather(role, laid_out(tmp_path, {**SEEN[role], more: b"x"}))


@pytest.mark.parametrize(("role", "path"), [(role, path) for role in SEEN for path in SEEN[role]])
def test_a_role_without_what_it_needs_is_refused_and_read_1_alone_may_be_missing(tmp_path, role, path):
    inputs = laid_out(tmp_path, {p: data for p, data in SEEN[role].items() if p != path})

    if path == "reads/read-1.md":
        gather(role, inputs)
    else:
        with pytest.raises(BadInput, match=f"a step of role {role} is given no"):
            gather(role, inputs)
