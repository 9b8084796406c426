"""The chain in real runs: what each role may see, what each received, and five adapters on one manifest."""

import hashlib
import json
import re

import pytest

KEY = "sk-canary-0123456789abcdef"
CHAIN = """
atlas: 1
name: chain
lineage: EX
seed: 1
governance: none
stimulus: {use: bsa, version: "0.2", each: tier}
steps:
  - {id: counts, use: count}
  - id: plan
    use: synthesis
    network: true
    params: {role: planner, context: [context.md], adapter: openai, options: OPTIONS}
  - id: prompt
    use: synthesis
    network: true
    params: {role: prompt, adapter: openai, options: OPTIONS}
    sees: [{from: plan.answer}]
  - id: first
    use: synthesis
    network: true
    params: {role: analysis, adapter: openai, options: OPTIONS}
    sees: [{from: prompt.answer}, {from: counts.raw}]
  - id: last
    use: synthesis
    network: true
    params: {role: synthesis, adapter: openai, options: OPTIONS}
    sees: [{from: counts.raw}]
"""
TABLE = """## quantities.csv

```csv
quantity,slice,value,uncertainty,uncertainty_kind,unit,converged
items,ground_truth,18.0,0.0,exact,1,true
items,contested,24.0,0.0,exact,1,true
items,foil,18.0,0.0,exact,1,true
```
"""
ANSWER = "Contested claims are counted twenty-four times.\n"


def chain(atlas, url="http://127.0.0.1:9/v1"):
    atlas.write("context.md", "The programme asks which claims are counted most.\n")
    text = re.sub(r"role: (\w+)(.*)OPTIONS", rf"role: \1\2{{base_url: {url}, model: \1}}", CHAIN)
    return atlas.write("chain.yaml", text)


def openai(atlas, server, model="answers", extra=""):
    """Write a manifest of one synthesis step that asks the server."""
    manifest = (atlas.folder / "m.yaml").read_text()
    options = f"options: {{base_url: {server.url}, model: {model}{extra}}}"
    atlas.write(
        "o.yaml",
        manifest.replace(
            "params: {adapter: manual}", f"network: true, params: {{adapter: openai, {options}}}"
        ),
    )
    return "o.yaml"


@pytest.mark.slow
def test_each_role_receives_what_it_may_see_and_nothing_else(atlas, server):
    chain(atlas, server.url)

    outcome = atlas("run", "chain.yaml")

    assert outcome.code == 0, outcome.err
    assert [upload.asked["messages"] for upload in server.uploads] == [
        [{"role": "user", "content": content}]
        for content in (
            "The programme asks which claims are counted most.\n",
            f"By planner. {ANSWER}",
            f"By prompt. {ANSWER}\n{TABLE}",
            TABLE,
        )
    ]
    view = atlas.view(atlas.runs()[0].name)
    given = {event.data["step"]: set(event.data["inputs"]) for event in view.of("step-started")}
    assert given["plan"] == {"stimulus/files/context.md"}
    assert given["prompt"] == {"raw/plan/answer.md"}
    assert not any("first" in path or "plan" in path or "prompt" in path for path in given["last"])
    assert len({upload.peer for upload in server.uploads}) == 4


def test_a_role_that_is_given_more_is_refused_with_line_and_column(atlas):
    text = chain(atlas).read_text().replace("{from: counts.raw}]", "{from: counts.raw}, {from: plan.answer}]")
    text = text.replace("[{from: plan.answer}]", "[{from: plan.answer}, {from: counts.raw}]")
    text = text.replace("  - id: prompt", "    sees: [{from: counts.raw}]\n  - id: prompt")
    text += "  - id: other\n    use: synthesis\n    params: {adapter: manual}\n"
    text += "    sees: [{from: counts.raw}, {from: first.answer}, {from: prompt.answer}]\n"
    atlas.write("chain.yaml", text)

    outcome = atlas("plan", "chain.yaml")

    refused = re.findall(r"chain.yaml:(\d+:\d+): a step of role `(\w+)` may not see ([\w.]+)", outcome.err)
    assert outcome.code == 2
    assert refused == [
        ("14:19", "planner", "counts.raw"),
        ("19:40", "prompt", "counts.raw"),
        ("24:62", "analysis", "plan.answer"),
        ("29:39", "synthesis", "plan.answer"),
        ("33:39", "synthesis", "first.answer"),
        ("33:61", "synthesis", "prompt.answer"),
    ]


def test_a_role_without_what_it_needs_is_refused_and_context_is_for_a_planner_alone(atlas):
    text = chain(atlas).read_text().replace("context: [context.md], ", "")
    text = text.replace("role: prompt,", "role: prompt, context: [context.md],")
    atlas.write("chain.yaml", text.replace("{from: prompt.answer}, ", ""))

    outcome = atlas("plan", "chain.yaml")

    assert outcome.code == 2
    assert "chain.yaml:13:13: the key `context` is missing" in outcome.err
    assert "chain.yaml:17:37: expected nothing, got" in outcome.err
    assert "write no `context`, which is for a planner alone" in outcome.err
    assert "chain.yaml:19:5: a step of role `analysis` is given no prompt.answer" in outcome.err


@pytest.mark.slow
def test_in_a_governed_run_a_plan_with_framework_words_goes_no_further(atlas, server, governed):
    text = chain(atlas, server.url).read_text().replace("model: planner", "model: taints")
    steps = text.partition("  - {id: counts, use: count}\n")[2].replace("raw}]", "raw}, {from: read-1}]")
    steps = steps.replace("{from: counts.raw}, {from: read-1}]", "{from: counts.raw}]", 1)

    said = governed(steps)

    assert said[-1].code == 2
    assert "what step prompt would be given is not clean" in said[-1].err
    assert "raw/plan/answer.md:1:11: framework vocabulary: 'viscosity proxy'" in said[-1].err
    assert len(server.uploads) == 1
    run = atlas.runs()[0].name
    skipped = atlas("skip", run, "prompt", "--reason", "the plan is not clean", "--by", "A. T.")
    assert (skipped.code, atlas("resume", run).code) == (0, 75), skipped.err
    assert [upload.asked["model"] for upload in server.uploads] == ["taints", "synthesis"]


def test_a_run_seals_both_bodies_and_a_network_that_is_not_granted_stays_closed(atlas, server):
    outcome = atlas("run", openai(atlas, server))

    view = atlas.view(atlas.runs()[0].name)
    facts = json.loads(view.read("raw/synthesis/facts.json"))
    assert outcome.code == 0, outcome.err
    assert view.read("raw/synthesis/request.json") == server.uploads[0].body
    assert view.read("raw/synthesis/response.json") == server.sent
    assert view.read("raw/synthesis/answer.md") == ANSWER.encode()
    assert facts["upload.sha256"] == hashlib.sha256(TABLE.encode()).hexdigest()
    checks = [e.data["name"] for e in view.of("step-checked")]
    assert checks == ["one upload", "output begun", "output ended"]
    text = (atlas.folder / "o.yaml").read_text()
    atlas.write("o.yaml", text.replace("network: true, ", ""))
    refused = atlas("run", "o.yaml")
    assert (refused.code, "'openai' needs the network and the step does not grant it" in refused.err) == (
        2,
        True,
    )


def test_an_answer_that_broke_off_is_never_asked_for_again(atlas, server):
    first = atlas("run", openai(atlas, server, "breaks"))
    run = atlas.runs()[0].name

    again = atlas("resume", run)

    assert (first.code, again.code, len(server.uploads)) == (5, 5, 1)
    assert "a model began to answer this package already" in again.err
    assert atlas("skip", run, "synthesis", "--reason", "the line broke", "--by", "A. T.").code == 0
    assert atlas("resume", run).code == 0


@pytest.mark.slow
def test_one_word_and_its_settings_swap_all_five_adapters(atlas, server, save_model, tmp_path):
    save_model(tmp_path / "tiny")
    asked = f"base_url: {server.url}, model: answers"
    base = asked.replace("/v1", "")
    rows = {
        "openai": ("true", f"{{{asked}}}"),
        "anthropic": ("true", f"{{{base}}}"),
        "local": ("false", "{path: tiny, max_tokens: 4}"),
        "replay": ("false", "{path: recorded}"),
        "manual": ("false", "{}"),
    }
    digests, uploads = set(), set()
    for adapter, (network, options) in rows.items():
        settings = {"adapter": adapter, "options": options}
        arguments = [f"steps.synthesis.params.{name}={value}" for name, value in settings.items()]
        arguments += [f"steps.synthesis.network={network}"]
        outcome = atlas("run", "m.yaml", *(word for a in arguments for word in ("--set", a)))
        run = atlas.runs()[-1].name
        if adapter == "manual":
            assert outcome.code == 75, outcome.err
            atlas.write("answer.md", ANSWER)
            assert atlas("answer", run, "synthesis", "--file", "answer.md", "--by", "A. T.").code == 0
            outcome = atlas("resume", run)
        assert outcome.code == 0, outcome.err
        view = atlas.view(run)
        facts = json.loads(view.read("raw/synthesis/facts.json"))
        assert facts["adapter"] == adapter
        digests.add(facts["package.digest"])
        uploads.add(view.read("raw/synthesis/package.md"))
        if adapter == "openai":
            atlas.write(f"recorded/{facts['package.digest']}.md", ANSWER)
    assert (len(digests), uploads) == (1, {TABLE.encode()})
