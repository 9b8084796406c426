"""A step in its process: what it is given, what it may leave, and every way in which it can fail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, evolve

from atlas.catalog import discover
from atlas.contracts import Slice, StimulusItem
from atlas.errors import AtlasError, BadInput, InstrumentFailed, PluginFault
from atlas.record import canonical_json
from atlas.run import channel
from atlas.run.kept import kept_key
from atlas.run.messages import (
    FetchRequest,
    StepRequest,
    StepResult,
    StepWaiting,
    TargetRequest,
    encode,
)
from atlas.run.steps import run_fetch, run_inline, run_step

PLUGIN = Path(__file__).parent / "misbehaving"
WHO = "plugin 'misbehaving', atlas-misbehaving 1.5"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the misbehaving plugin for this interpreter and the children it starts."""
    folder = tmp_path / "site" / "atlas_misbehaving-1.5.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: atlas-misbehaving\nVersion: 1.5\n")
    (folder / "entry_points.txt").write_text("[atlas.plugins]\nmisbehaving = atlas_misbehaving.plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(PLUGIN))
    yield
    for name in [name for name in sys.modules if name.startswith("atlas_misbehaving")]:
        del sys.modules[name]


def request(tmp_path: Path, instrument: str, **changes: Any) -> StepRequest:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    keep = tmp_path / "keep"
    keep.mkdir()
    whole = StepRequest(
        step="s",
        instrument=instrument,
        who=WHO,
        cards={"misbehaving": discover().card("misbehaving").sha256},
        params={},
        slices=(Slice("all", (StimulusItem("i1", "häm"),)),),
        max_tokens=None,
        seed=7,
        threads=1,
        out=str(out),
        scratch=str(scratch),
        keep=str(keep),
    )
    return evolve(whole, **changes)


def run(
    request: StepRequest, *, timeout_s: float | None = 60, messages: list[Any] | None = None
) -> StepResult | StepWaiting:
    folder = Path(request.out).parent
    return run_step(
        request,
        timeout_s=timeout_s,
        stdout=folder / "logs/s.1.stdout.txt",
        stderr=folder / "logs/s.1.stderr.txt",
        on_message=lambda message: messages.append(message) if messages is not None else None,
    )


def facts(tmp_path: Path) -> dict[str, str]:
    return dict(json.loads((tmp_path / "out/facts.json").read_bytes()))


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


def ended(pid: int) -> bool:
    """Whether a process is gone within seconds: a kill is carried out when its process is next scheduled."""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def test_a_step_leaves_exactly_its_declared_tables_facts_and_attachments(tmp_path: Path) -> None:
    messages: list[Any] = []
    result = run(request(tmp_path, "measure"), messages=messages)
    assert isinstance(result, StepResult)
    assert [(file.name, file.role) for file in result.files] == [
        ("facts.json", "facts"),
        ("lines.csv", "table"),
        ("lines.schema.json", "schema"),
        ("notes/one.txt", "attachment"),
        ("quantities.csv", "table"),
        ("quantities.schema.json", "schema"),
    ]
    assert [message["kind"] for message in messages] == ["ready", "progress", "check"]
    assert (tmp_path / "out/facts.json").read_bytes() == canonical_json(facts(tmp_path)) + b"\n"
    assert facts(tmp_path)["stimulus"] == "häm"


def test_process_and_inline_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run(request(tmp_path / "a", "measure"))
    inline = run_inline(request(tmp_path / "b", "measure"), on_message=lambda message: None)
    assert inline.isolation["process"] == "inline"
    for name in ("quantities.csv", "lines.csv", "lines.schema.json"):
        assert (tmp_path / "a/out" / name).read_bytes() == (tmp_path / "b/out" / name).read_bytes()


def test_a_step_sees_what_it_was_lent_and_no_secret_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:canary@example.org/simple")
    lent = tmp_path / "read-1.md"
    lent.write_text("seen")
    asked = request(
        tmp_path, "measure", inputs={"reads/read-1.md": str(lent)}, environment={"MALLOC_ARENA_MAX": "1"}
    )
    run(asked)
    observed = facts(tmp_path)
    names = set(observed["environment"].split())
    assert observed["seen"] == "reads/read-1.md=seen"
    assert {"OPENAI_API_KEY", "PIP_INDEX_URL"} & names == set()
    assert {"MALLOC_ARENA_MAX", "HF_HUB_OFFLINE"} <= names
    assert observed["threads"] == "1"
    assert Path(observed["folder"]) == Path(asked.scratch).resolve()


def test_a_card_may_set_numerical_libraries_only(tmp_path: Path) -> None:
    asked = request(tmp_path, "measure", environment={"LD_PRELOAD": "evil.so"})
    with pytest.raises(PluginFault, match="LD_PRELOAD"):
        run(asked)


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
@pytest.mark.parametrize("granted", [True, False])
def test_without_a_grant_the_network_is_closed_where_the_record_says_so(
    tmp_path: Path, granted: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = request(tmp_path, "connect", params={"address": list(server.getsockname())}, network=granted)
        result = run(asked)
    blocked = result.isolation["network"] == "blocked"
    assert (
        result.isolation["network"] == "granted"
        if granted
        else blocked or "open" in result.isolation["network"]
    )
    found = facts(tmp_path)
    assert found["connected"].startswith("no" if blocked else "yes")
    assert found["itself"] == "yes", "a step's own processes find each other"


def test_a_waiting_step_hands_out_files_and_leaves_no_results(tmp_path: Path) -> None:
    waiting = run(request(tmp_path, "ask"))
    assert isinstance(waiting, StepWaiting)
    assert waiting.ask == "Put this before the model."
    assert [(file.name, file.role) for file in waiting.files] == [("handout/prompt.md", "handout")]


def test_a_target_is_fetched_with_network_and_opened_with_what_came_back(tmp_path: Path) -> None:
    cards = {"misbehaving": discover().card("misbehaving").sha256}
    log = tmp_path / "fetch.txt"
    fetch = FetchRequest("lm", TargetRequest("box", {"revision": "main"}), WHO, cards, str(tmp_path))
    fetched = run_fetch(fetch, stdout=log, stderr=log, on_message=lambda message: None)
    assert fetched.params == {"revision": "main", "path": str((tmp_path / "model").resolve())}
    run(request(tmp_path, "open_target", target=TargetRequest("box", fetched.params)))
    assert facts(tmp_path)["target.sha256"] == fetched.params["path"]


def test_a_fetch_that_finds_nothing_is_the_users_error(tmp_path: Path) -> None:
    cards = {"misbehaving": discover().card("misbehaving").sha256}
    log = tmp_path / "fetch.txt"
    fetch = FetchRequest("lm", TargetRequest("box", {"absent": True}), WHO, cards, str(tmp_path))
    with pytest.raises(BadInput, match="fetching target 'lm': there is no such model"):
        run_fetch(fetch, stdout=log, stderr=log, on_message=lambda message: None)


def test_a_changed_card_is_refused_before_the_plugin_is_imported(tmp_path: Path) -> None:
    with pytest.raises(PluginFault, match="not the one that the run was planned with"):
        run(request(tmp_path, "kill_self", cards={"misbehaving": "0" * 64}))


FAILURES = {
    "raise_error": "ZeroDivisionError: the matrix was empty",
    "leave": r"called sys.exit\(0\) instead of returning",
    "leave_hard": "ended with exit code 0 but without a result",
    "segfault": "crashed \\(SIGSEGV\\).*string_at",
    "kill_self": "was killed \\(SIGKILL\\).*out of memory.*ask for less",
    "allocate": "ran out of memory; its peak was",
    "forge": "ended with exit code 0 but without a result",
    "close_all": "(closed its channel|ended with exit code)",
    "nothing": "without a quantity, a table or an attachment",
    "undeclared": "the table 'other' is not among the card's outputs",
    "incomplete": "declares the table lines, which was not written",
    "wrong_cell": "row 1, column n: expected a integer, found 'two'",
    "escape": "no safe path",
    "tamper": "lines.csv changed after it was written",
    "check_swallowed": "the check 'loss' did not pass: the loss is -1",
    "ungranted": "was not granted to this step",
}


@pytest.mark.parametrize("instrument", FAILURES)
def test_a_misbehaving_instrument_fails_by_name_and_the_host_goes_on(tmp_path: Path, instrument: str) -> None:
    with pytest.raises(InstrumentFailed, match=f"(?s){FAILURES[instrument]}") as caught:
        run(request(tmp_path, instrument))
    assert "atlas-misbehaving 1.5" in (caught.value.who or "")


def test_an_error_of_the_input_stays_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        run(request(tmp_path, "bad_input"))
    assert (caught.value.where, caught.value.fix) == ("model.safetensors", "download them again")


@pytest.mark.parametrize("instrument", ["hang", "spam"])
def test_a_step_past_its_limit_is_stopped(tmp_path: Path, instrument: str) -> None:
    started = time.monotonic()
    with pytest.raises(InstrumentFailed, match=r"did not end within its limit(?s:.*)larger `timeout_s`"):
        run(request(tmp_path, instrument), timeout_s=1.5)
    assert time.monotonic() - started < 6


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX's")
def test_a_step_that_ignores_sigterm_ends_with_all_its_children(tmp_path: Path) -> None:
    with pytest.raises(InstrumentFailed, match="did not end within its limit"):
        run(request(tmp_path, "hang_deaf"), timeout_s=1.5)
    assert ended(int((tmp_path / "logs/s.1.stdout.txt").read_text()))


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX's")
def test_a_left_over_grandchild_neither_delays_nor_outlives_the_step(tmp_path: Path) -> None:
    started = time.monotonic()
    assert isinstance(run(request(tmp_path, "orphan")), StepResult)
    assert time.monotonic() - started < 6
    assert ended(int((tmp_path / "logs/s.1.stdout.txt").read_text()))


def test_a_flood_of_output_is_cut_with_a_note_and_the_result_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "LOG_LIMIT", 1 << 20)
    assert isinstance(run(request(tmp_path, "flood")), StepResult)
    log = (tmp_path / "logs/s.1.stdout.txt").read_bytes()
    assert log.startswith(b"x" * (1 << 20) + b"\n[atlas: output beyond")
    assert len(log) < (1 << 20) + 100


def test_standard_input_is_empty_for_a_plugin_that_reads_it(tmp_path: Path) -> None:
    assert isinstance(run(request(tmp_path, "read_stdin")), StepResult)


def test_an_interrupt_in_the_host_ends_the_step(tmp_path: Path) -> None:
    def interrupt(message: Any) -> None:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
        pids.append(int(children.split()[-1]))
        raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run_step(
            request(tmp_path, "hang"),
            timeout_s=60,
            stdout=tmp_path / "out.txt",
            stderr=tmp_path / "err.txt",
            on_message=interrupt,
        )
    assert ended(pids[0])


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the process in /proc")
def test_a_step_does_not_outlive_a_host_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import json, sys; from pathlib import Path\n"
        "from atlas.run.messages import StepRequest, structure; from atlas.run.steps import run_step\n"
        "data = json.loads(sys.argv[1]); log = Path(data['out']).parent / 'log.txt'\n"
        "run_step(structure(data, StepRequest), timeout_s=60, stdout=log, stderr=log.with_suffix('.err'),\n"
        "         on_message=lambda message: print(message['kind'], flush=True))\n"
    )
    asked = encode(asdict(request(tmp_path, "hang"))).decode()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, asked], stdout=subprocess.PIPE, env=environment
    ) as host:
        assert host.stdout is not None and host.stdout.readline() == b"ready\n"
        step = int(Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text())
        host.kill()
    deadline = time.monotonic() + 5
    while alive(step) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(step)


@pytest.mark.parametrize("instrument", ["leave", "raise_error", "nothing"])
def test_inline_a_misbehaving_instrument_is_an_instrument_that_failed(
    tmp_path: Path, instrument: str
) -> None:
    home = Path.cwd()
    with pytest.raises(AtlasError) as caught:
        run_inline(request(tmp_path, instrument), on_message=lambda message: None)
    assert (type(caught.value), Path.cwd()) == (InstrumentFailed, home)


def test_the_key_of_what_a_step_keeps_changes_with_all_that_it_depends_on(tmp_path: Path) -> None:
    whole = request(tmp_path, "good")
    keys = [
        kept_key(whole, {}, {}),
        *(
            kept_key(evolve(whole, **change), {}, {})
            for change in (
                {"seed": 8},
                {"threads": 2},
                {"params": {"draws": 3}},
                {"slices": ()},
                {"max_tokens": 5},
                {"target": TargetRequest("hf", {"path": "m"})},
                {"environment": {"OMP_WAIT_POLICY": "PASSIVE"}},
            )
        ),
        kept_key(whole, {"raw/first/lengths.csv": "ab" * 32}, {}),
        kept_key(whole, {}, {"misbehaving": {"version": "1.6"}}),
    ]
    moved = evolve(whole, out="elsewhere", scratch="elsewhere", keep="elsewhere")

    assert len(set(keys)) == len(keys)
    assert kept_key(moved, {}, {}) == keys[0]
