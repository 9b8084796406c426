"""Fake keys in four places, looked for in six: neither they nor ten letters of one in a row may be found."""

import base64
import io
import re
import zipfile
from urllib.parse import quote

import pytest

KEY = "sk-canary+Zr7Qk2/Wm9Xt4Lp8Vn3Bh6"
PIECE = 10
PLACES = {
    "environment": ("answers", "sk-canary+Zr7Qk2/Wm9Xt4Lp8Vn3Bh6"),
    "URL": ("redirects", "sk-canary/Hd5Fs1+Gc8Jy0Ru6Te2Ka7"),  # to an address that holds the key
    "server echo": ("echoes-escaped", "sk-canary-Pq4Wz9/Nx7Mv3Bc1Sd8Lf5"),
    "exception text": ("refuses-with-key", "sk-canary_Jk6Yt2+Oi9Ud4Ew7Qa3Xs8"),
}
STEP = """\
  - id: synthesis-NUMBER
    use: synthesis
    network: true
    params: {adapter: openai, options: {base_url: "URL", model: MODEL, key_from: CANARY_NUMBER}}
    sees: [{from: counts.raw}, {from: read-1}]
"""


def spellings(key: str) -> tuple[str, ...]:
    return key, quote(key, safe=""), base64.b64encode(key.encode()).decode()


def holds(data: bytes, key: str) -> bool:
    """Return whether a spelling of the key, or ten letters of one in a row, stands in the bytes."""
    text = data.decode("utf-8", "replace")
    text += re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    return any(s[n : n + PIECE] in text for s in spellings(key) for n in range(len(s) - PIECE + 1))


def unzipped(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return b"\n".join(archive.read(name) for name in archive.namelist())


def carried_through(atlas, server, governed) -> dict[str, bytes]:
    """Take a governed run of one synthesis a place to its bundle and return what lies in each sink."""
    steps = [
        STEP.replace("NUMBER", str(number)).replace("URL", server.url).replace("MODEL", model)
        for number, (model, _) in enumerate(PLACES.values())
    ]
    said = governed("".join(steps))
    root = atlas.runs()[0]
    run = root.name
    while (failed := atlas.view(run).last("step-failed")) is not None and said[-1].code not in (0, 75):
        skip = ("skip", run, failed.data["step"], "--reason", "no answer", "--by", "A. T.")
        said += [atlas(*skip), atlas("resume", run)]
    said.append(atlas("workbook", "new", run))
    said += [atlas("read", "2", run, "--file", "read.md"), atlas("resume", run)]
    said += [atlas("report", run), atlas("pack", run, "--to", "out")]
    assert atlas.view(run).state == "done", said[-1].err
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {
        "run folder": b"\n".join(files.values()),
        "bundle": unzipped((atlas.folder / "out" / f"{run}.zip").read_bytes()),
        "workbook": b"\n".join(unzipped(data) for path, data in files.items() if path.suffix == ".xlsx"),
        "journal": (root / "journal.jsonl").read_bytes(),
        "logs": b"\n".join(data for path, data in files.items() if "logs" in path.parts),
        "terminal": "\n".join(f"{o.out}\n{o.err}" for o in said).encode(),
    }


def variables() -> dict[str, str]:
    """Return the environment in which the keys lie: one named by each step, one named by none."""
    named = {f"CANARY_{number}": key for number, (_, key) in enumerate(PLACES.values())}
    return {**named, "OPENAI_API_KEY": PLACES["environment"][1], "EDITOR": "", "VISUAL": ""}


def hits(sinks: dict[str, bytes]) -> dict[tuple[str, str], bool]:
    """Return whether the key of each place is found in each sink."""
    return {
        (place, sink): holds(data, key) for place, (_, key) in PLACES.items() for sink, data in sinks.items()
    }


@pytest.mark.slow
def test_a_key_in_four_places_is_found_in_none_of_six(atlas, server, governed, monkeypatch):
    for name, value in variables().items():
        monkeypatch.setenv(name, value)

    sinks = carried_through(atlas, server, governed)

    sent = [upload.headers["authorization"] for upload in server.uploads]
    assert sent == [f"Bearer {key}" for _, key in PLACES.values()]
    assert all(data.strip() for data in sinks.values()), {sink: len(data) for sink, data in sinks.items()}
    found = hits(sinks)
    assert (len(found), [pair for pair, hit in found.items() if hit]) == (24, [])


def manifest(atlas, url):
    text = (atlas.folder / "m.yaml").read_text()
    options = f"options: {{base_url: '{url}', model: answers, key_from: CANARY_KEY}}"
    asks = f"network: true, params: {{adapter: openai, {options}}}"
    atlas.write("o.yaml", text.replace("params: {adapter: manual}", asks))


@pytest.mark.parametrize(
    ("how", "url"),
    [
        ("file", f"http://user:{quote(KEY, safe='')}@127.0.0.1:9/v1"),
        ("set", f"http://127.0.0.1:9/v1?key={KEY}"),
        ("file", f"http://127.0.0.1:9/{KEY}/v1"),
        ("set", f"http://127.0.0.1:9/{KEY}/v1"),
    ],
    ids=["user", "query", "path", "path on the command line"],
)
def test_a_url_that_holds_the_key_is_refused_without_showing_it(atlas, monkeypatch, url, how):
    monkeypatch.setenv("CANARY_KEY", KEY)
    manifest(atlas, url if how == "file" else "http://127.0.0.1:9/v1")
    change = ("--set", f"steps.synthesis.params.options.base_url={url}") if how == "set" else ()

    outcome = atlas("run", "o.yaml", *change)

    assert outcome.code == 2, outcome.err
    assert not holds((outcome.out + outcome.err).encode(), KEY)
    assert atlas.runs() == []


def test_a_key_written_where_its_variable_should_be_named_is_not_shown(atlas):
    text = (atlas.folder / "m.yaml").read_text()
    options = f"{{model: m, key_from: {KEY}}}"
    atlas.write("m.yaml", text.replace("{adapter: manual}", f"{{adapter: openai, options: {options}}}"))

    outcome = atlas("plan", "m.yaml")

    assert outcome.code == 2
    assert "write the name of an environment variable, not the key itself" in outcome.err
    assert not holds((outcome.out + outcome.err).encode(), KEY)
