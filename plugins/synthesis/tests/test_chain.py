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


@pytest.mark.parametrize(
    ("step", "more", "place", "what"),
    [
        ("plan", "counts.raw", "14:19", "a step of role `planner` may not see counts.raw"),
        ("prompt", "counts.raw", "18:40", "a step of role `prompt` may not see counts.raw"),
        ("first", "plan.answer", "23:62", "a step of role `analysis` may not see plan.answer"),
        ("last", "first.answer", "28:39", "a step of role `synthesis` may not see first.answer"),
        ("last", "prompt.answer", "28:39", "a step of role `synthesis` may not see prompt.answer"),
    ],
)
def test_a_role_that_is_given_more_is_refused_with_line_and_column(atlas, step, more, place, what):
    lines = chain(atlas).read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if f"id: {step}" in line) + 4
    if step == "plan":
        lines.insert(at, f"    sees: [{{from: {more}}}]")
    else:
        lines[at] = lines[at].replace("]", f", {{from: {more}}}]")
    atlas.write("chain.yaml", "\n".join(lines))

    outcome = atlas("plan", "chain.yaml")

    assert outcome.code == 2
    assert f"chain.yaml:{place}: {what}" in outcome.err


def test_context_is_for_a_planner_alone_and_a_planner_needs_it(atlas):
    text = chain(atlas).read_text()
    atlas.write("chain.yaml", text.replace("role: prompt,", "role: prompt, context: [context.md],"))
    other = atlas("plan", "chain.yaml")
    atlas.write("chain.yaml", text.replace("context: [context.md], ", ""))
    without = atlas("plan", "chain.yaml")

    assert (other.code, "chain.yaml:17:" in other.err, "planner" in other.err) == (2, True, True)
    assert (without.code, "the key `context` is missing" in without.err) == (2, True)


def test_an_analysis_without_the_clean_prompt_is_refused(atlas):
    text = chain(atlas).read_text()
    atlas.write("chain.yaml", text.replace("{from: prompt.answer}, ", ""))

    outcome = atlas("plan", "chain.yaml")

    assert outcome.code == 2
    assert "a step of role `analysis` is given no prompt.answer" in outcome.err


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
    assert checks == ["one upload", "output begun"]
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
