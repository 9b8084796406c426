import pytest
from atlas_synthesis.replay import Replay
from atlas_synthesis.roles import package_of

from atlas.errors import BadInput, IntegrityBroken
from atlas.record import canonical_json
from atlas.run.journal import Journal
from atlas.run.store import Deposit, Store

PACKAGE = package_of("synthesis", {"raw/c/t.csv": b"quantity,value\r\nitems,24\r\n"})
OTHER = package_of("synthesis", {"raw/c/t.csv": b"quantity,value\r\nitems,25\r\n"})


def replay(folder, package=PACKAGE):
    return Replay().submit(package, {"path": str(folder)}, None)


@pytest.fixture
def run(tmp_path):
    """A finished run with an answer to the package."""
    root = tmp_path / "SYN-EX-20261123-001"
    facts = canonical_json({"package.digest": PACKAGE.digest})
    with Journal.create(root) as journal:
        journal.append("created", {"run_id": root.name, "atlas": "0.1.0", "governed": False})
        Store.open(journal).seal_together(
            "step-finished",
            {"step": "last", "attempt": 1},
            [
                Deposit("raw/last/facts.json", facts, "facts"),
                Deposit("raw/last/answer.md", b"Many.\n", "attachment"),
            ],
        )
    return root


def test_a_run_gives_back_the_answer_to_the_same_package(run):
    answer = replay(run)

    assert (answer.text, answer.facts["replayed_from"]) == ("Many.\n", f"{run.name} raw/last/answer.md")


def test_a_folder_gives_back_the_file_that_the_packages_digest_names(tmp_path):
    (tmp_path / f"{PACKAGE.digest}.md").write_text("Many.\n")

    assert replay(tmp_path).text == "Many.\n"


def test_another_package_has_no_answer_there(run, tmp_path):
    for folder in (run, tmp_path):
        with pytest.raises(BadInput, match=f"no answer is recorded for the package {OTHER.digest}"):
            replay(folder, OTHER)


def test_an_edited_recording_is_refused(run):
    path = run / "raw" / "last" / "answer.md"
    path.chmod(0o644)
    path.write_text("Few.\n")

    with pytest.raises(IntegrityBroken):
        replay(run)
