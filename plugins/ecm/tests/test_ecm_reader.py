import hashlib
import itertools
import json
import math
import statistics
from pathlib import Path

import pytest
from atlas_ecm.reader import tokens
from atlas_ecm.reader.folder import Folder
from atlas_ecm.reader.home import home_of, migration
from atlas_ecm.reader.intervals import median_of_sessions, ratio_over_sessions, share_of_sessions
from atlas_ecm.reader.measurement import session_row
from atlas_ecm.reader.pairs import covered
from atlas_ecm.reader.tokens import WORDS, open_tokenizer, pieces
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from atlas.errors import BadInput
from atlas.randomness import RandomStreams

HAND_CHECKED = Path(__file__).with_name("ecm_hand_checked.jsonl")


def read(path):
    folder = Folder(path)
    return list(folder.sessions()), folder.evidence


def said(session):
    return [(turn.answer, turn.text) for turn in session.turns]


def node(role, parts, parent, *children, kind="text", **metadata):
    content = {"content_type": kind, "parts": parts}
    message = {"author": {"role": role}, "content": content, "metadata": metadata}
    return {"message": message, "parent": parent, "children": list(children)}


OPENAI = {
    "conversation_id": "c1",
    "current_node": "d",
    "mapping": {
        "a": {"message": None, "parent": None, "children": ["b"]},
        "b": node("user", ["Q"], "a", "c", "d"),
        "c": node("assistant", ["old"], "b"),
        "d": node("assistant", [{"asset": 1}, "A"], "b", kind="multimodal_text", model_slug="m-1"),
    },
}
CLAUDE = {
    "uuid": "c2",
    "chat_messages": [
        {"sender": "human", "text": "Q", "content": [], "attachments": [{"extracted_content": "page"}]},
        {"sender": "assistant", "text": "", "content": [{"type": "text", "text": "A"}, {"type": "tool_use"}]},
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "turns"),
    [
        ("a.txt", "model = m\n\nUser: Q\nmore\nAssistant:\nA\n", [(False, "Q\nmore"), (True, "A")]),
        (
            "a.md",
            "## Human\nQ\n**AI:** A\n```\nUser: x\n```\n",
            [(False, "Q"), (True, "A\n```\nUser: x\n```")],
        ),
        ("a.jsonl", '{"prompt": "Q", "output": "A"}\n', [(False, "Q"), (True, "A")]),
        ("a.csv", 'prompt;output\n"Q\nq";A\n', [(False, "Q\nq"), (True, "A")]),
        ("a.csv", "session,role,text\ns,user,Q\ns,assistant,A\n", [(False, "Q"), (True, "A")]),
        ("a.json", json.dumps([OPENAI], indent=1), [(False, "Q"), (True, "A")]),
        ("a.json", json.dumps([CLAUDE]), [(False, "Q\npage"), (True, "A")]),
    ],
)
def test_each_form_of_file_gives_its_turns(tmp_path, name, text, turns):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")

    (session,), _ = read(tmp_path)

    assert said(session) == turns


@pytest.mark.parametrize(("entry", "left_out"), [(OPENAI, 2), (CLAUDE, 1)])
def test_parts_that_are_no_text_and_abandoned_branches_are_counted(tmp_path, entry, left_out):
    (tmp_path / "a.json").write_text(json.dumps(entry))

    assert read(tmp_path)[0][0].left_out == left_out


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.txt", "Q\n", "a.txt:1"),
        ("a.txt", "\nhello\nUser: Q\n", "a.txt:2"),
        ("a.jsonl", '{"prompt": "Q", "output": "A"}\n{"prompt": 1}\n', "a.jsonl:2"),
        ("a.csv", 'prompt,output\n"Q\nq",A\nQ\n', "a.csv:4"),
        ("a.json", '[{"prompt": "Q", "output": "A"},\n\n {"prompt" "Q"}]', "a.json:3"),
        ("a.jsonl", '{"session": "s", "prompt": "Q", "output": "A"}\n' * 2, "a.jsonl:2"),
    ],
)
def test_a_fault_is_named_with_file_and_line(tmp_path, name, text, place):
    (tmp_path / name).write_text(text, newline="")

    with pytest.raises(BadInput) as caught:
        read(tmp_path)

    assert caught.value.where == place


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (OPENAI | {"title": "Dense  loaf", "conversation_id": "0123456789ab"}, "Dense loaf 01234567"),
        (CLAUDE | {"name": "", "uuid": "0123456789ab"}, "0123456789ab"),
    ],
)
def test_a_conversation_is_named_by_its_title_before_a_short_identity(tmp_path, entry, name):
    (tmp_path / "a.json").write_text(json.dumps(entry))

    assert read(tmp_path)[0][0].id == name


EMPTY = {"conversation_id": "c0", "current_node": "a", "mapping": {"a": {"message": None, "parent": None}}}


def test_a_session_that_lacks_a_part_is_a_row_that_says_which_and_counts_in_no_mean(atlas):
    atlas.write("s/home/0.json", json.dumps([EMPTY, {"uuid": "c9", "chat_messages": []}, OPENAI]))
    atlas.write("s/home/1.jsonl", '{"prompt": " ", "output": "Sure! A"}\n{"prompt": "Q", "output": ""}\n')
    atlas.write("s/home/2.txt", "User: Q\n")
    atlas.write("m.yaml", MANIFEST)

    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    view = atlas.view(atlas.runs()[0].name)
    rows = view.tables("sessions")["ecm-sessions"]

    assert [(row["session"], row["missing"], row["token_ratio"], row["preamble_words"]) for row in rows] == [
        ("c0", "question and answer", None, None),
        ("c9", "question and answer", None, None),
        ("c1", None, 1.0, 0),
        ("home/1.jsonl:1", "question", None, 1),
        ("home/1.jsonl:2", None, 0.0, 0),
        ("home/2.txt", "answer", None, None),
    ]
    found = {q.quantity: (q.value, q.num_samples) for _, q in view.quantities() if q.slice == "m"}
    assert found["token_ratio"] == (0.0, 1)
    assert json.loads(view.text("raw/sessions/facts.json"))["incomplete"] == "4 sessions"


def test_every_file_that_was_read_has_its_digest_in_the_record(atlas):
    atlas.write("s/home/a.txt", "User: Q\nAssistant: A\n")
    atlas.write("m.yaml", MANIFEST)
    assert atlas("run", "m.yaml").code == 0

    (row,) = atlas.view(atlas.runs()[0].name).tables("sessions")["ecm-files"]

    assert row["sha256"] == hashlib.sha256((atlas.folder / "s/home/a.txt").read_bytes()).hexdigest()


def test_a_pair_is_covered_where_both_its_claims_were_put_and_another_item_by_its_own_id():
    assert covered(["bsa-001a", "bsa-001b", "bsa-002a", "tide", "two words", ""]) == ("bsa-001", "tide")


def test_bytes_that_are_no_text_are_named_counted_and_hashed(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"User: Q\nAssistant: A \xff\xfe b\n\xc3\n")
    (tmp_path / "b.txt").write_bytes(b"\x89P\0")
    (tmp_path / "c.png").write_bytes(b"x")

    (session,), evidence = read(tmp_path)
    rows = [found.as_record() for found in evidence]

    assert said(session)[1] == (True, "A \ufffd b\n\ufffd")
    assert [(row["file"], row["status"], row.get("not_text_bytes")) for row in rows] == [
        ("a.txt", "read", 3), ("b.txt", "not text", 3), ("c.png", "not read", None),
    ]  # fmt: skip
    assert (rows[0]["not_text_runs"], rows[0]["not_text_line"]) == (2, 2)
    assert rows[0]["not_text_sha256"] == hashlib.sha256(b"\xff\xfe\xc3").hexdigest()
    assert [json.loads(line)["bytes"] for line in evidence[0].json_lines()] == ["fffe", "c3"]


def test_a_list_longer_than_the_text_at_hand_is_read_entry_by_entry(tmp_path):
    entries = [{"session": str(n), "prompt": "q" * n, "output": "a]},{" * n} for n in range(1, 400)]
    (tmp_path / "a.json").write_text(json.dumps(entries))

    found = [(session.id, session.turns[1].text) for session in read(tmp_path)[0]]
    assert found == [(entry["session"], entry["output"]) for entry in entries]


def test_of_the_hand_checked_transcripts_the_preamble_is_found_in_38_of_40_and_every_ratio(tmp_path):
    # Oracle: spans marked by hand before the rule was run on them; words counted by `wc -w`. Edition 1 of the
    # rule found 37 unseen; edition 3 knows them.
    (tmp_path / "a.jsonl").write_bytes(HAND_CHECKED.read_bytes())
    known = [json.loads(line) for line in HAND_CHECKED.read_text("utf-8").splitlines()]
    rows = [session_row(session, WORDS, "m") for session in read(tmp_path)[0]]

    exact = [
        (row["preamble"] or "") == one["span"] and row["preamble_words"] == one["span_words"]
        for row, one in zip(rows, known, strict=True)
    ]
    ratios = [
        row["token_ratio"] == one["words_out"] / one["words_in"] for row, one in zip(rows, known, strict=True)
    ]

    assert len(known) == 40
    assert sum(exact) >= 38
    assert all(ratios)


def test_a_session_leaves_home_outside_the_range_of_its_baseline():
    home = home_of([0.5, 1.0, 4.0], 1.5)

    assert (home.economy, home.ratio, home.chance) == ("Surgical", 1.0, 0.5)
    assert [home.migrated(ratio) for ratio in (0.4, 0.5, 4.0, 4.1)] == ["Surgical", "none", "none", "Verbose"]


def test_a_quadrant_is_made_of_a_persons_stances_alone():
    row = {"model": "m", "home": True, "token_ratio": 2.0, "economy": "Verbose", "economy_migration": None}
    away = row | {"session": "c", "home": False, "token_ratio": 0.5, "economy": "Surgical",
                  "economy_migration": "Surgical"}  # fmt: skip
    rows = [row | {"session": "a"}, row | {"session": "b"}, away]

    coded = migration(rows, {"a": "Compliant", "b": "Compliant", "c": "Combative"}, 1.0)
    blank = migration(rows, {}, 1.0)

    assert [(one.home, one.quadrant, one.direction) for one in (*coded, *blank)] == [
        ("VC", "SCo", "VC to SCo"), ("", "", ""),
    ]  # fmt: skip


def test_the_mean_of_r_has_the_bootstrap_t_interval_on_cube_roots(monkeypatch):
    # Oracle: all 256 samples of four values, enumerated; the order statistics of 10,000 draws are the same
    # ones. Of two values half the samples have no standard error, so there is no interval.
    assert ratio_over_sessions("r", [1.0, 2.0], RandomStreams(1), "m").low is None
    values = [1.0, 2.0, 6.0, 20.0]
    mean, error = statistics.fmean(values), statistics.stdev(values) / 2
    found = []
    for sample in itertools.product(values, repeat=4):
        own, spread = statistics.fmean(sample), statistics.stdev(sample) / 2
        shift = own ** (1 / 3) - mean ** (1 / 3)
        found.append(math.copysign(math.inf, shift) if spread == 0 else shift * 3 * own ** (2 / 3) / spread)
    found.sort()
    low_t, high_t = found[math.ceil(0.025 * 256) - 1], found[math.ceil(0.975 * 256) - 1]
    half = error / (3 * mean ** (2 / 3))

    quantity = ratio_over_sessions("r", values, RandomStreams(1), "m")

    assert quantity.low == pytest.approx(max(0.0, mean ** (1 / 3) - high_t * half) ** 3, rel=1e-9)
    assert quantity.high == pytest.approx((mean ** (1 / 3) - low_t * half) ** 3, rel=1e-9)


def test_the_intervals_of_a_median_and_of_a_share_are_the_published_ones():
    # Oracles: P(B < 2) = 12/2048 and P(B < 3) = 67/2048 for eleven halves, so the ends are the second and
    # tenth value. Wilson's interval of none in ten ends at z^2 / (n + z^2) = 0.27753.
    median = median_of_sessions("r", [float(n) for n in range(1, 12)], "m")
    share = share_of_sessions("s", 0, 10, "m", "")

    assert (median.low, median.value, median.high) == (2.0, 6.0, 10.0)
    assert (share.low, share.high) == (pytest.approx(0.0, abs=1e-12), pytest.approx(0.27753, abs=1e-5))


def test_pieces_of_a_long_text_are_the_text_cut_at_spaces_between_letters(monkeypatch):
    monkeypatch.setattr(tokens, "LONGEST", 5)
    text = "one two, three  four five"

    assert list(pieces(text)) == ["one two, three  four", " five"]


def test_a_tokenizer_of_a_folder_counts_without_special_tokens_and_is_named_by_its_digest(tmp_path):
    # Oracle: words and marks told apart, so `Is it so?` has four tokens; the frame [A] would make them five.
    fast = Tokenizer(WordLevel({"[A]": 0, "?": 1}, unk_token="[A]"))
    fast.pre_tokenizer = Whitespace()
    fast.post_processor = TemplateProcessing(single="[A] $A", special_tokens=[("[A]", 0)])
    fast.enable_truncation(2)
    file = tmp_path / "tokenizer.json"
    fast.save(str(file))

    opened = open_tokenizer(tmp_path)

    assert opened.count("Is it so?") == 4
    assert (opened.name, opened.sha256) == (tmp_path.name, hashlib.sha256(file.read_bytes()).hexdigest())


def test_a_folder_without_a_tokenizer_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(BadInput, match="no tokenizer"):
        open_tokenizer(tmp_path)


MANIFEST = """
atlas: 1
name: sessions
lineage: SML
seed: 1
governance: none
steps:
  - {id: sessions, use: ecm, params: {sessions: ./s, model: m, baseline: ["home/*"]}}
"""


def test_a_run_writes_its_tables_and_leaves_the_codes_blank(atlas):
    for number in range(3):
        atlas.write(f"s/home/{number}.txt", f"User: a b\nAssistant: {'c ' * (number + 2)}\n")
    atlas.write("s/away.txt", "User: a b\nAssistant: Sure! " + "c " * 20)
    atlas.write("m.yaml", MANIFEST)

    outcome = atlas("run", "m.yaml")
    assert outcome.code == 0, outcome.err
    view = atlas.view(atlas.runs()[0].name)
    rows = view.tables("sessions")["ecm-sessions"]

    assert [(row["session"], row["token_ratio"], row["economy_migration"]) for row in rows] == [
        ("away.txt", 10.5, "Verbose"),
        ("home/0.txt", 1.0, None),
        ("home/1.txt", 1.5, None),
        ("home/2.txt", 2.0, None),
    ]
    assert {row[name] for row in rows for name in ("stance", "resolution_code")} == {None}
    found = {quantity.quantity: quantity.value for _, quantity in view.quantities()}
    assert found == {
        "token_ratio": 3.75,
        "preamble_words": 0.25,
        "home_token_ratio": 1.5,
        "migrated_share": 1.0,
    }

    atlas.write("m.yaml", MANIFEST.replace("home/*", "hone/*"))
    outcome = atlas("run", "m.yaml")
    assert outcome.code == 2
    assert "no session's file matches the baseline pattern 'hone/*'" in outcome.err
    assert "such as home/" in outcome.err


READ_0 = """# Read #0
I expect R near one at home and near ten elsewhere, with a padding of one or two words. I predict HOLD. A
padding above ten words would surprise me very much.
"""
READ_1 = """# Read #1
The session away from home came out far longer than the two at home, whose sizes lie close to each other. The
padding was shorter than I had written down, and none of the files held anything but text.
"""


def test_a_governed_run_opens_the_sessions_after_read_0_and_quadrants_after_a_persons_codes(atlas):
    for number in range(2):
        atlas.write(f"s/home/{number}.txt", f"User: a b\nAssistant: {'c ' * (number + 2)}\n")
    atlas.write("s/away.txt", "User: a b\nAssistant: c " + "c " * 20)
    governed = '{use: cisp, version: "1.1", operator: A. Technician}'
    atlas.write("m.yaml", MANIFEST.replace("governance: none", f"governance: {governed}"))
    atlas.write("registry.yaml", "registry: 1\n")
    for plugin in ("cisp", "ecm"):
        assert atlas("registry", "add", plugin).code == 0
    assert atlas("run", "m.yaml").code == 75
    run = atlas.runs()[0].name
    draft = atlas.view(run).root / "drafts" / "sanitisation.md"
    atlas.environment.update(EDITOR="", VISUAL="")
    assert atlas("answer", run, "sanitisation").code == 2
    atlas.write("sheet.md", draft.read_text().replace("[ ]", "[x]"))
    assert atlas("answer", run, "sanitisation", "--file", "sheet.md").code == 0
    assert atlas("resume", run).code == 75
    assert not (atlas.view(run).root / "raw").is_dir()

    atlas.write("read-0.md", READ_0)
    assert atlas("read", "0", run, "--file", "read-0.md").code == 0
    assert atlas("resume", run).code == 75
    rows = atlas.view(run).tables("sessions")["ecm-sessions"]
    assert {row[name] for row in rows for name in ("stance", "resolution_code")} == {None}

    assert atlas("ecm", run, "--coder", "A. Technician").code == 2
    assert atlas("code", run, "--coder", "A. Technician", "--file", "sheet.md").code == 2
    atlas.write("read-1.md", READ_1)
    assert atlas("read", "1", run, "--file", "read-1.md").code == 0
    codes = "away.txt,Combative,LOCK\nhome/0.txt,Compliant,FLAT\nhome/1.txt,Compliant,FLAT\n"
    atlas.write("codes.csv", "session,stance,resolution_code\n" + codes)
    assert atlas("code", run, "--coder", "A. Technician", "--file", "codes.csv").code == 0
    shown = atlas("ecm", run, "--coder", "A. Technician")

    assert "VC to VCo" in shown.out, shown.err


def test_the_report_shows_padding_and_leaves_codes_blank_and_escapes_what_sessions_say(atlas):
    atlas.write("s/home/a.jsonl", '{"session": "<i>1", "prompt": "Q <b>", "output": "Sure, A <b>"}\n')
    atlas.write("m.yaml", MANIFEST.replace("model: m,", "model: '<b>m',"))
    assert atlas("run", "m.yaml").code == 0

    page = (atlas.view(atlas.runs()[0].name).root / "report.html").read_text("utf-8")
    section = page.partition("Sessions: economy and padding")[2]

    assert "&lt;i&gt;1" in section
    assert "<q>Sure,</q>" in section
    assert section.count("blank</span>") >= 2
    assert "<i>1" not in page
    assert "<b>m" not in page
