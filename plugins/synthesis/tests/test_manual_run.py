"""The synthesis step in a real run: real command line, real processes, a small instrument beside it."""

import hashlib
import json

import pytest

PACKAGE = b"""## quantities.csv

```csv
quantity,slice,value,uncertainty,uncertainty_kind,unit,converged
items,ground_truth,18.0,0.0,exact,1,true
items,contested,24.0,0.0,exact,1,true
items,foil,18.0,0.0,exact,1,true
```
"""


@pytest.fixture
def waiting(atlas):
    """A run that waits for the synthesis model's answer: the command line, and the run's id."""
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 75, outcome.err
    return atlas, atlas.runs()[0].name


def test_a_run_waits_with_the_package_in_its_handout_folder(waiting):
    atlas, run = waiting
    view = atlas.view(run)

    assert view.read("handouts/synthesis/package.md") == PACKAGE
    assert view.waiting_for.id == "synthesis"


def test_the_answer_that_was_brought_is_sealed_and_the_run_ends(waiting):
    atlas, run = waiting
    atlas.write("answer.md", "Each tier is counted.\n")

    assert atlas("answer", run, "synthesis", "--file", "answer.md", "--by", "A. Technician").code == 0
    outcome = atlas("resume", run)
    assert outcome.code == 0, outcome.err

    view = atlas.view(run)
    facts = json.loads(view.read("raw/synthesis/facts.json"))
    assert view.state == "done"
    assert view.read("raw/synthesis/answer.md") == b"Each tier is counted.\n"
    assert facts["upload.sha256"] == hashlib.sha256(PACKAGE).hexdigest()
    assert (
        facts["package.digest"]
        == hashlib.sha256(view.read("handouts/synthesis/manifest-sha256.txt")).hexdigest()
    )


@pytest.mark.parametrize("text", [PACKAGE.decode(), "a\0b", " \n"], ids=["the package", "binary", "empty"])
def test_what_cannot_be_an_answer_is_not_sealed_and_another_may_be_brought(waiting, text):
    atlas, run = waiting
    atlas.write("wrong.md", text)
    atlas.write("answer.md", "Each tier is counted.\n")

    assert atlas("answer", run, "synthesis", "--file", "wrong.md", "--by", "A. Technician").code == 2
    assert atlas("answer", run, "synthesis", "--file", "answer.md", "--by", "A. Technician").code == 0


def test_an_option_that_the_adapter_does_not_know_is_refused_by_line_and_column(atlas):
    manifest = (atlas.folder / "m.yaml").read_text()
    atlas.write("m.yaml", manifest.replace("adapter: manual", "adapter: manual, options: {model: m}"))

    outcome = atlas("plan", "m.yaml")

    assert outcome.code == 2
    assert "m.yaml:10:73: unknown key `model` of the synthesis adapter 'manual'" in outcome.err
