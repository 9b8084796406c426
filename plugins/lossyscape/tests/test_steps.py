"""Potential, tension and link sheet as steps of runs: measured once, and looked at from several sides."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from atlas_lossyscape.section import render
from atlas_lossyscape.vocabulary import find_term

from atlas.testing import Atlas

pytestmark = pytest.mark.slow  # models, processes and their imports: half a minute for the module

TEXTS = ["A cat sat on a mat.", "Rain fell all day.", "The sun rose late.", "No bird sang then."]


def manifest(model: Path, **changes) -> str:
    return yaml.safe_dump(
        {
            "atlas": 1,
            "name": "tiny",
            "lineage": "TIN",
            "seed": 3,
            "governance": "none",
            "targets": {"lm": {"use": "hf", "path": str(model), "dtype": "float64"}},
            "stimulus": {"use": "text", "texts": TEXTS, "max_tokens": 12},
            "steps": [
                {
                    "id": "curvature",
                    "use": "pyhessian",
                    "target": "lm",
                    "params": {"top_k": 3, "trace": False, "tolerance": 1e-4},
                },
                {"id": "drop", "use": "potential", "target": "lm", "params": {"krylov": 24, "tokens": 1000}},
                {
                    "id": "hold",
                    "use": "tension",
                    "target": "lm",
                    "params": {"top_k": 3},
                    "sees": [{"from": "curvature.raw"}],
                },
                {"id": "alone", "use": "tension", "target": "lm", "params": {"top_k": 3}},
            ],
        }
        | changes
    )


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_model):
    """The command line in a folder where the manifest was run."""
    desk = Atlas(tmp_path_factory.mktemp("steps"), {})
    desk.write("m.yaml", manifest(tiny_model))
    outcome = desk("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    return desk


@pytest.fixture(scope="module")
def view(desk):
    return desk.view(desk.runs()[0].name)


@pytest.fixture(scope="module")
def quantities(view):
    return {(step, q.quantity): q for step, q in view.quantities()}


def test_each_part_of_the_gradient_is_told(view):
    (row,) = view.tables("drop")["potential"]

    assert row["share_certified"] + row["share_open"] + row["share_negative"] == pytest.approx(1, abs=1e-9)
    assert row["newton_krylov"] >= row["newton"] - row["krylov_bound"] >= 0


def test_the_drops_that_were_taken_add_up_to_the_descent(view, quantities):
    taken = [step["drop"] for step in view.tables("drop")["descent"] if step["taken"]]

    assert sum(taken) == pytest.approx(quantities["drop", "potential_descent"].value, rel=1e-9)
    assert sum(taken) > 0


def test_no_quantity_of_either_instrument_is_without_an_error(quantities):
    kinds = {q.uncertainty_kind.value for (step, _), q in quantities.items() if step != "curvature"}

    assert kinds <= {"exact", "residual_bound", "standard_error", "interval_95"}


def test_the_disagreement_has_the_bound_of_the_krylov_drop(view, quantities):
    (row,) = view.tables("drop")["potential"]
    apart = quantities["drop", "potential_disagreement"]

    assert apart.value == pytest.approx(row["newton_krylov"] - row["descent"])
    assert apart.uncertainty == row["krylov_bound"] > 0


def test_the_tokens_losses_are_those_of_the_slice(view, quantities):
    losses = [row["loss"] for row in view.tables("drop")["tokens"]]

    assert np.mean(losses) == pytest.approx(quantities["drop", "loss"].value, rel=1e-6)


def test_every_token_has_one_role_in_one_pair(view):
    rows = view.tables("drop")["tokens"]
    places = [(row["pair"], row["role"]) for row in rows if row["pair"] is not None]

    pairs = len(rows) // 2
    assert sorted(places) == sorted((p, r) for p in range(1, pairs + 1) for r in ("token", "control"))


def test_a_few_bent_directions_are_hardly_felt_by_noise_in_all(view, quantities):
    (row,) = view.tables("hold")["tension"]

    assert row["num_certified"] == 3 and 0 <= row["top_share"] <= 1
    assert row["drift"] == pytest.approx(1.0, abs=0.05) and abs(row["drift_top"] - 1.0) > 0.1
    assert quantities["hold", "top_share"].uncertainty == row["top_share_se"] > 0


def test_a_spectrum_that_is_seen_saves_products_and_changes_nothing_else(view, quantities):
    seen, alone = (view.tables(step)["tension"][0] for step in ("hold", "alone"))

    assert seen["num_matvecs"] < alone["num_matvecs"]
    bound = quantities["hold", "relative_curvature"].uncertainty
    assert seen["relative_curvature"] == pytest.approx(alone["relative_curvature"], abs=2 * bound)
    assert quantities["hold", "gradient_curvature"].value == quantities["alone", "gradient_curvature"].value


def test_the_sections_show_pictures_states_and_plain_words(view):
    drop, hold = render(view, "drop").html, render(view, "hold").html

    assert (drop.count("<img"), hold.count("<img")) == (3, 1)
    assert find_term("charged").plain in drop and find_term("slack").plain in hold
    (row,) = view.tables("hold")["tension"]
    assert f"1 {row['state']}" in hold


def test_a_plan_says_what_both_take(desk):
    outcome = desk("plan", "m.yaml")

    assert outcome.code == 0, outcome.err
    words = " ".join(outcome.out.split())
    # Lanczos 24, one to verify, 44 tokens that are scored, and at most 8 steps of 10 products; 4 replicas
    # of 2 kinds of noise and one walk without, 8 gradients each, 4 items and the whole.
    assert "149 (77 to 149) products" in words
    assert "and 77 gradients" in words


READS = {
    "read-0": """# Read #0
I expect the largest eigenvalue to lie between ten and eighty for both pairs, since the model is tiny and
random, and the trace near zero. I predict HOLD. A pair with an eigenvalue above five hundred would surprise
me, because random weights of this size hardly bend the loss.
""",
    "read-1": """# Read #1
The two pairs gave eigenvalues of similar size with small bounds. The share of the gradient in the leading
vectors was below one half for both, as I had expected of random weights.
""",
}


def _record(desk: Atlas) -> str:
    template = desk("bsa", "template", "--model", "m1=AAA", "--model", "m2=BBB", "--model", "m3=BBB")
    rows = list(csv.DictReader(io.StringIO(template.out)))
    for number, row in enumerate(rows):
        row["score"] = str(40 + number % 20)
        row["answer"] = f"I would say {row['score']}."
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    desk.write("answers.csv", buffer.getvalue())
    outcome = desk("bsa", "import", "answers.csv", "--lineage", "TIN", "--operator", "A. Technician")
    assert outcome.code == 0, outcome.err
    return desk.runs()[0].name


def test_in_a_governed_run_interpretation_waits_for_read_1_and_the_call_stays_blank(tmp_path, tiny_model):
    desk = Atlas(tmp_path, {"EDITOR": "", "VISUAL": ""})
    desk.write("registry.yaml", "registry: 1\n")
    for plugin in ("cisp", "ecm", "huggingface", "lossyscape", "pyhessian"):
        assert desk("registry", "add", plugin).code == 0
    record = _record(desk)
    steps = yaml.safe_load(manifest(tiny_model))["steps"][:3]
    steps[1]["params"]["tokens"] = 0
    links = {"reference": {"slices": "others"}}
    steps.append({"id": "links", "use": "link-sheet", "params": links, "sees": [{"from": "curvature.raw"}]})
    text = manifest(
        tiny_model,
        steps=steps,
        governance={"use": "cisp", "version": "1.1", "operator": "A. Technician", "bsa_record": record},
        stimulus={"use": "bsa", "version": "0.2", "each": "pair", "limit": 4, "max_tokens": 8},
    )
    desk.write("m.yaml", text)
    assert desk("run", "m.yaml").code == 75
    run = desk.runs()[-1].name
    desk("answer", run, "sanitisation")
    draft = (desk.view(run).root / "drafts" / "sanitisation.md").read_text("utf-8")
    desk.write("sheet.md", draft.replace("[ ]", "[x]"))
    assert desk("answer", run, "sanitisation", "--file", "sheet.md").code == 0
    assert desk("resume", run).code == 75
    desk.write("read-0.md", READS["read-0"])
    assert desk("read", "0", run, "--file", "read-0.md").code == 0
    outcome = desk("resume", run)
    assert outcome.code == 75, outcome.err

    # Measured, but no Read #1: neither the sheet nor any section, and nothing can be signed.
    view = desk.view(run)
    assert view.finished_steps() == ("curvature", "drop", "hold")
    assert desk("report", run).code == 0
    page = (view.root / "report.html").read_text("utf-8")
    assert "data:image/svg+xml" not in page and "Status: <b>" not in page
    signing = ("link", "sign", run, "--signal", "top-eigenvalue", "--record", record, "--by", "A. Technician")
    assert "closed until Read #1" in desk(*signing).err

    desk.write("read-1.md", READS["read-1"])
    outcome = desk("read", "1", run, "--file", "read-1.md")
    assert outcome.code == 0, outcome.err
    assert desk("resume", run).code in (0, 75)
    view = desk.view(run)
    rows = view.tables("links")["relations"]
    assert {(row["status"], row["call"]) for row in rows} == {("PROVISIONAL", None)}
    assert {row["relation"] for row in rows if row["signal"] == "top-eigenvalue"} == {"high", "low"}
    # A record collected by hand is Tier C and lifts nothing.
    assert "only a Tier A behavioural record lifts" in desk(*signing).err
    assert desk("report", run).code == 0
    page = (view.root / "report.html").read_text("utf-8")
    assert "data:image/svg+xml" in page and "Status: <b>PROVISIONAL</b>" in page
