"""The adapters that ask a server, against a real one on loopback."""

import hashlib
import json
import sys

import pytest
from atlas_synthesis import exchange as exchanges
from atlas_synthesis.exchange import LARGEST_BODY, TRIES
from atlas_synthesis.roles import package_of
from atlas_synthesis.servers import AnthropicServer, OpenAIServer

from atlas.errors import BadInput, InstrumentFailed

PACKAGE = package_of("synthesis", {"raw/counts/quantities.csv": b"quantity,value\r\nitems,24\r\n"})
KEY = "sk-canary-0123456789abcdef"
ANSWER = "Contested claims are counted twenty-four times.\n"


class Meeting:
    """An interaction that remembers what it was told."""

    def __init__(self):
        self.brought = None
        self.notes = []

    def note(self, name, detail):
        self.notes.append((name, detail))

    def begun(self, detail):
        self.notes.append(("output begun", detail))

    def names(self):
        return [name for name, _ in self.notes]


def options(server, model="answers", **changes):
    url = server if isinstance(server, str) else server.url
    settings = {"base_url": url, "model": model, "key_from": None, "temperature": 0, "seed": 3}
    return {**settings, "max_tokens": 64, "timeout_s": 5, **changes}


def submit(server, model="answers", **changes):
    meeting = Meeting()
    return OpenAIServer().submit(PACKAGE, options(server, model, **changes), meeting), meeting


def refused(server, model, **changes):
    meeting = Meeting()
    with pytest.raises(InstrumentFailed) as caught:
        OpenAIServer().submit(PACKAGE, options(server, model, **changes), meeting)
    return caught.value, meeting


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(exchanges, "PAUSE_S", 0)


@pytest.mark.parametrize(
    ("adapter", "path"), [(OpenAIServer(), "/v1/chat/completions"), (AnthropicServer(), "/v1/messages")]
)
def test_a_server_is_sent_the_package_alone_and_both_bodies_are_kept_byte_for_byte(server, adapter, path):
    url = server.url if isinstance(adapter, OpenAIServer) else server.url.removesuffix("/v1")
    meeting = Meeting()

    answer = adapter.submit(PACKAGE, options(url), meeting)

    (upload,) = server.uploads
    sent = {"model": "answers", "temperature": 0, "max_tokens": 64}
    sent |= {"seed": 3} if isinstance(adapter, OpenAIServer) else {}
    assert answer.text == ANSWER
    assert upload.path == path
    assert upload.asked == {**sent, "messages": [{"role": "user", "content": PACKAGE.upload.decode()}]}
    assert answer.files == {"request.json": upload.body, "response.json": server.sent}
    assert meeting.names() == ["one upload", "output begun", "output ended"]
    assert hashlib.sha256(server.sent).hexdigest() in meeting.notes[-1][1]
    assert (answer.facts["server.model"], answer.facts["server.tokens_in"]) == ("answers-0", "7")
    assert answer.facts["asked.temperature"] == "0"


def test_each_interaction_has_a_connection_of_its_own(server):
    for _ in range(2):
        submit(server)

    assert len({upload.peer for upload in server.uploads}) == 2
    assert [len(upload.asked["messages"]) for upload in server.uploads] == [1, 1]


def test_a_connection_that_failed_before_any_byte_is_tried_again_and_journaled(server):
    answer, meeting = submit(server, "drops-once")

    assert (answer.facts["tries"], len(server.uploads)) == ("2", 2)
    tried = ["one upload", "no output before a retry"]
    assert meeting.names() == [*tried, "one upload", "output begun", "output ended"]


def test_a_server_that_never_sends_a_byte_is_given_up_after_the_tries(server):
    error, meeting = refused(server, "drops")

    assert "sent nothing" in error.what
    assert (len(server.uploads), meeting.names().count("one upload")) == (TRIES, TRIES)


def test_a_server_that_is_not_there_is_named(closed_port):
    error, _ = refused(closed_port, "answers")

    assert f"{closed_port} sent nothing: ConnectError" in error.what


@pytest.mark.parametrize(
    ("model", "what", "begun"),
    [
        ("stalls", "sent nothing within 0.3 s", False),
        ("limits", "refused with HTTP 429: slow down", False),
        ("fails", "refused with HTTP 500: <html> <b>oops</b></html>", False),
        ("redirects", "refused with HTTP 302", False),
        ("breaks", "broke off after 100 bytes of the answer", True),
        ("malformed", "sent no answer", True),
        ("other", "sent no answer: it is no chat completion", True),
        ("trickles", "was not complete after 0.3 s", True),
    ],
)
def test_whatever_else_goes_wrong_is_told_and_the_package_is_uploaded_once(server, model, what, begun):
    error, meeting = refused(server, model, timeout_s=0.3 if "0.3 s" in what else 5)

    assert what in error.what
    assert len(server.uploads) == 1
    assert ("output begun" in meeting.names()) == ("output ended" in meeting.names()) == begun
    assert begun == ("uploaded once" in str(error.fix))


def test_an_answer_of_50_mb_is_given_up_at_the_limit(server):
    error, _ = refused(server, "huge")

    assert f"longer than {LARGEST_BODY} bytes" in error.what
    assert server.written < 50 << 20


def test_the_key_goes_to_the_server_and_leaves_the_environment(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", f"{KEY}\n")

    answer, _ = submit(server, key_from="SOME_KEY")

    assert server.uploads[0].headers["authorization"] == f"Bearer {KEY}"
    assert "SOME_KEY" not in __import__("os").environ
    assert (answer.facts["key_from"], answer.facts["key_echoed"]) == ("SOME_KEY", "no")


@pytest.mark.parametrize("model", ["echoes", "echoes-escaped"])
def test_a_key_that_the_server_sends_back_is_removed_from_answer_and_sealed_bytes(server, monkeypatch, model):
    monkeypatch.setenv("SOME_KEY", KEY)

    answer, _ = submit(server, model, key_from="SOME_KEY")

    decoded = json.dumps(json.loads(answer.files["response.json"]), ensure_ascii=False)
    assert "[key removed]" in answer.text
    assert KEY not in answer.text + decoded + str(answer.facts) + str(answer.files)
    assert answer.facts["key_echoed"].startswith("yes")


def test_no_part_of_a_key_is_left_where_a_servers_reason_is_cut_short(server, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)

    error, _ = refused(server, "refuses-at-length", key_from="SOME_KEY")

    assert KEY[:6] not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "is not set"),
        ("  ", "is not set"),
        ("two words-of-a-key", "is no key"),
        ("no-key!", "shorter than 8"),
    ],
)
def test_a_variable_that_holds_no_key_is_refused_without_showing_it(server, monkeypatch, value, fault):
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)

    with pytest.raises(BadInput, match=fault) as caught:
        submit(server, key_from="SOME_KEY")

    assert not value or not value.strip() or value not in str(caught.value)
    assert server.uploads == []


@pytest.mark.parametrize(("adapter", "extra"), [(OpenAIServer(), "openai"), (AnthropicServer(), "anthropic")])
def test_a_missing_client_is_one_error_that_names_the_extra(monkeypatch, adapter, extra):
    monkeypatch.setitem(sys.modules, extra, None)

    with pytest.raises(BadInput) as caught:
        adapter.submit(PACKAGE, options("http://127.0.0.1:9/v1"), Meeting())

    assert caught.value.fix == f'pip install "atlas-synthesis[{extra}]"'
