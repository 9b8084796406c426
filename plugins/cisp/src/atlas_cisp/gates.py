"""The gates of the protocol, and what makes an answer to one of them complete."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from atlas.governance import Gate, Problem

__all__ = ["GATES", "ITEMS", "READS", "SANITISATION", "complete", "normalised", "template"]

SANITISATION = "sanitisation"
READS = ("read-0", "read-1", "read-2")
_LEAST_WORDS = {"read-0": 10, "read-1": 5, "read-2": 5}
"""Words of a Read's longest paragraph, template lines not counted: enough to rule out "ok" and "n/a"."""

PLACEHOLDER = "_write here_"
_BOX = re.compile(
    r"^\s*[-*+]?\s*(?:\[(?P<mark>[^\]]*)\]|(?P<sign>[☐☑☒✓✔]))\s*(?P<id>S\d+)\.\s+(?P<text>\S.*)$"
)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")


@cache
def template(gate: str) -> str:
    """Return the document that a gate's answer starts from."""
    return (Path(__file__).parent / "templates" / f"{gate}.md").read_text(encoding="utf-8")


def _items() -> Mapping[str, str]:
    matches = (_BOX.match(line) for line in template(SANITISATION).splitlines())
    return {match["id"]: match["text"] for match in matches if match}


ITEMS: Mapping[str, str] = _items()
"""The lines of the sanitisation sheet by their ids, `S1` and so on."""

GATES: tuple[Gate, ...] = (
    Gate(
        SANITISATION,
        "Sanitisation and environment",
        "measure",
        f"answers/{SANITISATION}.md",
        template(SANITISATION),
        "The Technician ticks every line that is true. A line that is not true is put right first.",
    ),
    Gate(
        "read-0",
        "Technician's Read #0",
        "measure",
        "reads/read-0.md",
        template("read-0"),
        "The Technician writes at least one paragraph: what they expect, which code or number they predict, "
        "what would surprise them. No model file has been opened yet.",
        binds_seed=True,
    ),
    Gate(
        "read-1",
        "Technician's Read #1",
        "interpret",
        "reads/read-1.md",
        template("read-1"),
        "The Technician reads the sealed tables (raw/ in the run folder) and writes what they see. The "
        "synthesis model receives this text; use plain words, as the programme's terms would frame it.",
    ),
    Gate(
        "read-2",
        "Technician's Read #2",
        "close",
        "reads/read-2.md",
        template("read-2"),
        "The Technician compares Read #1 with the synthesis, notes agreements and contradictions, and writes "
        "the final finding. A contradiction is a finding; it corrects neither text.",
    ),
)


def normalised(text: str) -> str:
    """Return a copy to judge by: no byte order mark, LF line ends, composed characters."""
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", plain)


def complete(gate: str, text: str) -> tuple[Problem, ...]:
    """Return what is missing from an answer; the sealed bytes are judged on a normalised copy."""
    plain = normalised(text)
    return _unticked(plain) if gate == SANITISATION else _unwritten(gate, plain)


def _unticked(text: str) -> tuple[Problem, ...]:
    found: dict[str, tuple[int, bool, str]] = {}
    problems = []
    for number, line in enumerate(text.split("\n"), start=1):
        match = _BOX.match(line)
        if match is None:
            continue
        ticked = match["sign"] in ("☑", "☒", "✓", "✔") or (match["mark"] or "").strip().lower() in (
            "x",
            "✓",
            "✔",
            "☑",
        )
        if match["id"] in found:
            problems.append(Problem(f"{match['id']} stands twice", where=f"line {number}"))
        found[match["id"]] = (number, ticked, match["text"])
    for item, wording in ITEMS.items():
        if item not in found:
            problems.append(Problem(f"{item} is missing: {wording}"))
            continue
        number, ticked, text_found = found[item]
        if text_found.split() != wording.split():
            problems.append(Problem(f"{item} was reworded; it reads: {wording}", where=f"line {number}"))
        elif not ticked:
            problems.append(Problem(f"{item} is not ticked: {wording}", where=f"line {number}"))
    return tuple(problems)


def _unwritten(gate: str, text: str) -> tuple[Problem, ...]:
    problems = []
    given = {line.strip() for line in template(gate).splitlines() if line.strip()}
    own = []
    for number, line in enumerate(re.sub(r"<!--[\s\S]*?-->", "", text).split("\n"), start=1):
        stripped = line.strip()
        if stripped.strip("_* ").lower() == PLACEHOLDER.strip("_"):
            problems.append(
                Problem(f"a question is unanswered: {PLACEHOLDER!r} still stands", where=f"line {number}")
            )
        elif stripped in given or re.match(r"#{1,6}(?:\s|$)", stripped):
            own.append("")
        else:
            own.append(stripped)
    paragraphs = [p for p in re.split(r"\n\s*\n", "\n".join(own)) if p.strip()]
    words = max((len(_WORD.findall(p)) for p in paragraphs), default=0)
    least = _LEAST_WORDS[gate]
    if words < least:
        problems.append(
            Problem(
                f"there is no paragraph of your own of at least {least} words yet; the longest has {words}"
            )
        )
    return tuple(problems)
