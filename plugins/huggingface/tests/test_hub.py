"""The hub, stood in for by a server of this machine that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CALL = """
import json, sys
from atlas_huggingface.plugin import atlas_targets
from atlas.errors import BadInput
source = atlas_targets()["hf"]
said = []
try:
    params = json.loads(sys.argv[2])
    if sys.argv[1] == "fetch":
        print(json.dumps(dict(source.fetch(params, lambda message, **more: said.append(more)))))
        assert said[-1]["done"] == said[-1]["total"] > 10_000, said
    else:
        print(json.dumps(dict(source.open(params, threads=1).facts)))
except BadInput as error:
    print(error)
    sys.exit(2)
"""


def call(what, params, cache, endpoint="http://127.0.0.1:9"):
    """Run `fetch` or `open` in a fresh process whose hub is `endpoint` and whose cache is `cache`."""
    environment = {**os.environ, "HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", CALL, what, json.dumps(params)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 2), done.stderr
    return done.returncode, done.stdout


@pytest.fixture
def hub(folder):
    """Serves the tiny model as `tiny/model`, tag `v1`, and keeps the names of the files asked for."""
    (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    asked = set()

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            prefix, _, name = path.partition(f"/resolve/{COMMIT}/")
            if path == "/api/models/tiny/model/revision/v1":
                files = [{"rfilename": p.name} for p in folder.iterdir()]
                self.answer(json.dumps({"id": "tiny/model", "sha": COMMIT, "siblings": files}).encode())
            elif path.startswith(f"/api/models/tiny/model/tree/{COMMIT}"):
                files = [
                    {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": digest(p)}
                    for p in folder.iterdir()
                ]
                self.answer(json.dumps(files).encode())
            elif prefix == "/tiny/model" and (folder / name).is_file():
                asked.add(name)
                data = (folder / name).read_bytes()
                self.answer(data, **{"ETag": f'"{digest(folder / name)}"', "X-Repo-Commit": COMMIT})
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RevisionNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET

        def answer(self, data, **headers):
            self.send_response(200)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def digest(path):
    return hashlib.sha1(path.read_bytes()).hexdigest()


def test_a_revision_is_fetched_once_without_pickles_and_opened_offline(hub, tmp_path):
    endpoint, asked = hub
    code, said = call("fetch", {"id": "tiny/model", "revision": "v1"}, tmp_path / "cache", endpoint)
    assert code == 0, said
    params = json.loads(said)
    code, said = call("open", params, tmp_path / "cache")
    assert (code, params["revision"], "pytorch_model.bin" in asked) == (0, COMMIT, False)
    assert json.loads(said)["source"] == f"huggingface.co tiny/model at {COMMIT}"


def test_a_snapshot_in_the_cache_is_opened_by_its_tag_without_the_hub(hub, tmp_path):
    call("fetch", {"id": "tiny/model", "revision": "v1"}, tmp_path / "cache", hub[0])
    code, said = call("open", {"id": "tiny/model", "revision": "v1"}, tmp_path / "cache")
    assert (code, json.loads(said)["model"]) == (0, "tiny/model")


def test_an_unknown_revision_is_refused_by_name(hub, tmp_path):
    code, said = call("fetch", {"id": "tiny/model", "revision": "v2"}, tmp_path / "cache", hub[0])
    assert (code, said.startswith("tiny/model at v2: the model cannot be fetched from the hub")) == (2, True)


def test_a_hub_that_cannot_be_reached_is_a_clear_error(tmp_path):
    code, said = call("fetch", {"id": "tiny/model", "revision": "v1"}, tmp_path / "cache")
    assert code == 2
    assert said.startswith("tiny/model at v1: the model cannot be fetched from the hub")
    assert "set `path` to a folder that is here" in said


def test_a_model_that_was_not_fetched_is_a_clear_error(tmp_path):
    code, said = call("open", {"id": "tiny/model", "revision": "v1"}, tmp_path / "cache")
    assert (code, said.partition("\n")[0]) == (
        2,
        "tiny/model at v1: the model is not on this machine, or not all of it",
    )
