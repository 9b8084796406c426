import hashlib
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from atlas_synthesis.answer import LARGEST
from atlas_synthesis.instrument import synthesis
from atlas_synthesis.manual import Manual
from atlas_synthesis.plugin import atlas_instruments, atlas_synthesis_adapters
from atlas_synthesis.roles import package_of

from atlas.contracts import Answer
from atlas.errors import BadInput

FILES = {
    "raw/curvature/quantities.csv": b"quantity,value\r\nlambda_max,3.5\r\n",
    "reads/read-1.md": b"The largest value surprised me.\n",
}
PACKAGE = package_of("synthesis", FILES)
ANSWER = b"The value is large; the Read expected less.\n"


class Waits(BaseException):
    def __init__(self, ask):
        self.ask = ask


class Context:
    """As much of a step's context as a synthesis touches; results are kept in memory."""

    step = "synthesis"

    def __init__(self, folder: Path, inputs, adapter=None):
        self.params = {"adapter": "manual", "options": {}, "role": "synthesis", "protocol": "1.1"}
        self.inputs = {}
        self.keep = folder / "keep"
        self.keep.mkdir(exist_ok=True)
        for path, data in inputs.items():
            self.inputs[path] = folder / path
            self.inputs[path].parent.mkdir(parents=True, exist_ok=True)
            self.inputs[path].write_bytes(data)
        self.adapter = adapter or Manual()
        self.facts: dict[str, str] = {}
        self.attachments: dict[str, bytes] = {}

    def load(self, kind, name):
        assert (kind, name) == ("synthesis_adapters", "manual")
        return self.adapter

    def progress(self, message, *, done=None, total=None, **figures):
        pass

    def fact(self, name, value):
        self.facts[name] = value

    def attach(self, name, data):
        self.attachments[name] = data

    def await_human(self, ask):
        raise Waits(ask)


def test_the_first_call_hands_out_the_package_and_waits(tmp_path):
    context = Context(tmp_path, FILES)

    with pytest.raises(Waits) as caught:
        synthesis(context)

    handout = caught.value.ask.handout
    assert handout == {
        "package.md": PACKAGE.upload,
        "manifest-sha256.txt": handout["manifest-sha256.txt"],
        **FILES,
    }
    assert hashlib.sha256(handout["manifest-sha256.txt"]).hexdigest() == PACKAGE.digest
    assert context.attachments == {}


def test_the_ask_says_what_to_do_in_plain_words(tmp_path):
    with pytest.raises(Waits) as caught:
        synthesis(Context(tmp_path, FILES))

    for words in ("fresh session", "send nothing else", "first answer", "--file answer.md"):
        assert words in caught.value.ask.ask


def test_the_second_call_keeps_the_answer_that_was_brought(tmp_path):
    context = Context(tmp_path, {**FILES, "answers/synthesis.md": ANSWER})

    synthesis(context)

    assert context.attachments == {"answer.md": ANSWER, "package.md": PACKAGE.upload}
    assert {
        name: context.facts[name] for name in ("protocol", "adapter", "adapter.carried", "package.digest")
    } == {
        "protocol": "1.1",
        "adapter": "manual",
        "adapter.carried": "by hand",
        "package.digest": PACKAGE.digest,
    }
    assert (context.facts["answer.words"], context.facts["answer.bytes"]) == ("8", str(len(ANSWER)))
    assert context.facts["upload.sha256"] == hashlib.sha256(PACKAGE.upload).hexdigest()


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b" \r\n", "empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"text\0text", "NUL"),
        (b"x" * (LARGEST + 1), "bytes"),
        (PACKAGE.upload.replace(b"\n", b"\r\n"), "was to be uploaded"),
    ],
    ids=["empty", "binary", "nul", "oversized", "the upload itself"],
)
def test_what_is_no_answer_is_refused(tmp_path, data, fault):
    with pytest.raises(BadInput, match=fault):
        synthesis(Context(tmp_path, {**FILES, "answers/synthesis.md": data}))


def test_an_answer_of_any_adapter_is_held_to_the_same_rule(tmp_path):
    class Mute:
        def submit(self, package, params, interaction):
            return Answer(" ")

    with pytest.raises(BadInput, match="empty"):
        synthesis(Context(tmp_path, FILES, Mute()))


def test_an_adapter_is_given_the_package_and_its_own_options_alone(tmp_path):
    class Recorder:
        def submit(self, package, params, interaction):
            self.given = (package, params, interaction.brought)
            return Answer("Noted.", {"model": "m"})

    recorder = Recorder()
    context = Context(tmp_path, FILES, recorder)
    context.params["options"] = {"model": "m"}

    synthesis(context)

    assert recorder.given == (PACKAGE, {"model": "m"}, None)
    assert context.facts["adapter.model"] == "m"


def test_the_plugin_offers_what_its_card_lists():
    provides = yaml.safe_load((files("atlas_synthesis") / "atlas-plugin.yaml").read_bytes())["provides"]

    assert {kind: set(names) for kind, names in provides.items()} == {
        "instruments": set(atlas_instruments()),
        "synthesis_adapters": set(atlas_synthesis_adapters()),
    }
