"""A real server on loopback that behaves well or badly, and a small instrument to have something to read."""

from __future__ import annotations

import json
import runpy
import socket
import threading
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from attrs import define, field

from atlas.testing import Atlas, Outcome

CARD = """
api: 1
summary: Counts.
provides:
  instruments:
    count:
      {summary: Counts items., code: CNT, phase: measure, needs: {stimulus: true}, determinism: exact}
"""
MODULE = """
from atlas.hookspecs import hookimpl
from atlas.quantities import Quantity


def count(context):
    for part in context.slices:
        context.record(Quantity("items", len(part.items), 0.0, "exact", slice=part.key))


@hookimpl
def atlas_instruments():
    return {"count": count}
"""
MANIFEST = """
atlas: 1
name: counted
lineage: EX
seed: 1
governance: none
stimulus: {use: bsa, version: "0.2", each: tier}
steps:
  - {id: counts, use: count}
  - {id: synthesis, use: synthesis, params: {adapter: manual}, sees: [{from: counts.raw}]}
"""
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GOVERNED = """
atlas: 1
name: governed
lineage: EX
seed: 1
governance: {use: cisp, version: "1.1", operator: A. Technician}
stimulus: {use: bsa, version: "0.2", each: tier}
steps:
  - {id: counts, use: count}
"""
READ = (
    "I expect twenty-four contested items, as there are twelve pairs of them; any other count would be odd.\n"
)
ANSWER = "Contested claims are counted twenty-four times.\n"


@define
class Upload:
    """A request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]

    @property
    def asked(self) -> dict:
        return json.loads(self.body)


@define
class Server:
    """A server whose behaviour the name of the model decides."""

    url: str = ""
    uploads: list[Upload] = field(factory=list)
    sent: bytes = b""
    written: int = 0


def _chat(text: str, model: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    reply = {"id": "c1", "object": "chat.completion", "created": 1, "model": f"{model}-0", "usage": usage}
    return json.dumps({**reply, "choices": [choice]}).encode()


def _message(text: str, model: str) -> bytes:
    usage = {"input_tokens": 7, "output_tokens": 5}
    reply = {"id": "m1", "type": "message", "role": "assistant", "model": f"{model}-0", "usage": usage}
    content = [{"type": "text", "text": text}]
    return json.dumps({**reply, "content": content, "stop_reason": "end_turn"}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server
    over: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.state.uploads.append(Upload(self.path, headers, body, self.client_address))
        model = json.loads(body)["model"]
        getattr(self, model.replace("-", "_"), self.answers)(model)

    def answers(self, model: str) -> None:
        make = _message if self.path.endswith("/messages") else _chat
        self._send(200, make(ANSWER if model == "answers" else f"By {model}. {ANSWER}", model))

    def taints(self, model: str) -> None:
        self._send(200, _chat("Ask for a viscosity proxy.", model))

    def stalls(self, model: str) -> None:
        self.over.wait(5)

    def drops(self, model: str) -> None:
        self._hang_up()

    def drops_once(self, model: str) -> None:
        if len(self.state.uploads) == 1:
            self._hang_up()
        else:
            self.answers(model)

    def breaks(self, model: str) -> None:
        self._head(200, 1000)
        self.wfile.write(_chat(ANSWER, model)[:100])
        self.wfile.flush()
        self._hang_up()

    def trickles(self, model: str) -> None:
        self._head(200, 1000)
        while not self.over.wait(0.05):
            self.wfile.write(b" ")

    def limits(self, model: str) -> None:
        self._send(429, b'{"error": {"message": "slow down", "type": "rate_limit"}}')

    def fails(self, model: str) -> None:
        self._send(500, b"<html>\n<b>oops</b></html>", "text/html")

    def malformed(self, model: str) -> None:
        self._send(200, b'{"choices": [{"message": ')

    def other(self, model: str) -> None:
        self._send(200, b'{"choices": []}')

    def huge(self, model: str) -> None:
        self._head(200, 50 << 20)
        while self.state.written < 50 << 20:
            self.wfile.write(b"x" * (1 << 16))
            self.state.written += 1 << 16

    def echoes(self, model: str) -> None:
        self._send(200, _chat(f"You sent {dict(self.headers.items())}.", model))

    def echoes_escaped(self, model: str) -> None:
        key = self.headers["authorization"].removeprefix("Bearer ")
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in key).encode()
        self._send(200, _chat("You sent KEY.", model).replace(b"KEY", escaped))

    def refuses_with_key(self, model: str, before: str = "") -> None:
        message = f"{before}no such key: {self.headers['authorization']}"
        self._send(401, json.dumps({"error": {"message": message}}).encode())

    def refuses_at_length(self, model: str) -> None:
        self.refuses_with_key(model, before="no " * 88)

    def redirects(self, model: str) -> None:
        self.send_response(302)
        self.send_header("location", f"{self.state.url}/x?key={self.headers['authorization']}")
        self.send_header("content-length", "0")
        self.end_headers()

    def _send(self, status: int, data: bytes, kind: str = "application/json") -> None:
        self.state.sent = data
        self._head(status, len(data), kind)
        self.wfile.write(data)

    def _head(self, status: int, length: int, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(length))
        self.end_headers()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        with suppress(OSError):  # the client has gone, which is what several tests are about
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving():
    """Run a server; see `_Handler` for how each model behaves."""
    state, over = Server(), threading.Event()
    handler = type("Handler", (_Handler,), {"state": state, "over": over})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}/v1"
    yield state
    over.set()
    running.shutdown()
    running.server_close()
    thread.join(2)


@pytest.fixture
def server():
    """A running server."""
    with serving() as state:
        yield state


@pytest.fixture
def closed_port():
    """An address of loopback where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def with_count(folder: Path) -> Atlas:
    """Return the command line with the instrument `count` installed, and `m.yaml` written."""
    site = folder / "site"
    info, package = site / "atlas_count-1.0.dist-info", site / "atlas_count"
    info.mkdir(parents=True)
    package.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: atlas-count\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[atlas.plugins]\ncount = atlas_count\n")
    (package / "atlas-plugin.yaml").write_text(CARD)
    (package / "__init__.py").write_text(MODULE)
    command = Atlas(folder, {"PYTHONPATH": str(site)})
    command.write("m.yaml", MANIFEST)
    return command


def governed_to_read_1(atlas: Atlas, steps: str) -> list[Outcome]:
    """Take a governed run with these steps up to the resumption after Read 1; return what was said."""
    atlas.write("registry.yaml", "registry: 1\n")
    said = [atlas("registry", "add", plugin) for plugin in ("count", "cisp", "ecm", "synthesis")]
    atlas.write("g.yaml", GOVERNED + steps)
    atlas.write("read.md", READ)
    said.append(atlas("run", "g.yaml"))
    root = atlas.runs()[0]
    said.append(atlas("answer", root.name, "sanitisation"))
    sheet = (root / "drafts" / "sanitisation.md").read_text()
    atlas.write("sheet.md", sheet.replace("[ ]", "[x]"))
    said.append(atlas("answer", root.name, "sanitisation", "--file", "sheet.md"))
    for number in "01":
        said += [atlas("read", number, root.name, "--file", "read.md"), atlas("resume", root.name)]
    return said


@pytest.fixture
def governed(atlas, monkeypatch):
    """Takes a governed run up to the resumption after Read 1, without an editor."""
    monkeypatch.setenv("EDITOR", "")
    monkeypatch.setenv("VISUAL", "")
    return partial(governed_to_read_1, atlas)


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    """The command line in a folder of its own."""
    return with_count(tmp_path)


def _save(folder, *, before="", context=512):
    """Save a Llama of two layers with random weights, a byte-level tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    tokenizer.chat_template = before + CHAT
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="session")
def save_model():
    """Saves a tiny model into a folder and returns its tokenizer."""
    return _save


@pytest.fixture(scope="session")
def save_gguf():
    """Writes a GGUF file of a tiny model, as the tests of the Hugging Face targets do."""
    path = Path(__file__).parents[2] / "huggingface" / "tests" / "conftest.py"
    return runpy.run_path(str(path))["_save_gguf"]
