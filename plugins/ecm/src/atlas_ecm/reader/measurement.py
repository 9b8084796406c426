"""The instrument `ecm`: token economy and padding of sessions, read from files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from attrs import define, field

from atlas.contracts import StepContext
from atlas.errors import BadInput
from atlas.quantities import Quantity, UncertaintyKind
from atlas.randomness import RandomStreams
from atlas_ecm.reader.folder import Folder
from atlas_ecm.reader.home import Home, home_of, side
from atlas_ecm.reader.intervals import (
    RESAMPLES,
    mean_over_sessions,
    median_of_sessions,
    ratio_over_sessions,
    share_of_sessions,
)
from atlas_ecm.reader.pairs import covered
from atlas_ecm.reader.preamble import EDITION, preamble_of
from atlas_ecm.reader.schemas import FILES, SESSIONS
from atlas_ecm.reader.sessions import Session
from atlas_ecm.reader.tokens import WORDS, Tokenizer, count_words, open_tokenizer

__all__ = ["means_over_sessions", "measure", "record_sessions", "session_row"]

KEPT = 256 * 2**20
"""Bytes of sessions up to which they are copied into the run."""

_STEP = 500


def measure(context: StepContext) -> None:
    """Read the sessions of a folder, one at a time.

    Raises:
        BadInput: A file or the tokenizer is faulty, or a pattern of the baseline matches no file.
    """
    params = context.params
    tokenizer = open_tokenizer(Path(params["tokenizer"])) if "tokenizer" in params else WORDS
    patterns, files = params.get("baseline", []), dict[str, None]()
    copies = _Copies()

    def is_home(session: Session) -> bool:
        files[session.file] = None
        return any(fnmatchcase(session.file, pattern) for pattern in patterns)

    rows = record_sessions(
        context,
        Path(params["sessions"]),
        tokenizer,
        params["model"],
        home=is_home,
        seen=copies.add,
    )
    _require_matches(patterns, list(files))
    context.fact("pairs", " ".join(covered(row["item"] or "" for row in rows if row["missing"] is None)))
    if copies.lines:
        context.attach("sessions.jsonl", b"".join(copies.lines))
    context.fact("copies", "sessions.jsonl" if copies.lines else f"not kept, more than {KEPT} bytes")


def record_sessions(
    context: StepContext,
    path: Path,
    tokenizer: Tokenizer,
    model: str,
    *,
    home: Callable[[Session], bool],
    seen: Callable[[Session], None] = lambda session: None,
) -> list[dict[str, Any]]:
    """Read sessions and record their tables, facts and quantities; return the rows of `ecm-sessions`.

    Args:
        context: Of the step; `boundary` is among its parameters.
        path: A folder or file of sessions.
        tokenizer: Counts tokens.
        model: The model that answered, where a file names none.
        home: Says whether a session is one of its model's baseline.
        seen: Called with each session.

    Raises:
        BadInput: A file is faulty.
    """
    folder, rows = Folder(path), list[dict[str, Any]]()
    for session in folder.sessions():
        rows.append(session_row(session, tokenizer, model, home=home(session)))
        seen(session)
        if len(rows) % _STEP == 0:
            context.progress("sessions read", done=len(rows))
    homes = _with_homes(rows, context.params["boundary"])
    _state(context, tokenizer, rows)
    context.table(SESSIONS.name, rows)
    context.table(FILES.name, [found.as_record() for found in folder.evidence])
    if stray := b"".join(line for found in folder.evidence for line in found.json_lines()):
        context.attach("not-text.jsonl", stray)
    for name in homes:
        for quantity in _quantities(
            context, name, [row for row in rows if row["model"] == name], homes[name]
        ):
            context.record(quantity)
    return rows


def session_row(session: Session, tokenizer: Tokenizer, model: str, *, home: bool = False) -> dict[str, Any]:
    """Return what can be computed of one session alone: the row of `ecm-sessions` without its home.

    Args:
        session: The session.
        tokenizer: Counts tokens.
        model: Name of the model where the session's file gives none.
        home: Whether it is one of the model's baseline.
    """
    put = [turn.text for turn in session.turns if not turn.answer]
    said = [turn.text for turn in session.turns if turn.answer]
    tokens_in, tokens_out = (sum(map(tokenizer.count, texts)) for texts in (put, said))
    missing = session.missing or ("" if tokens_in else "question")
    turns = session.turns
    first = next((number for number, turn in enumerate(turns) if turn.answer), 0)
    preamble = preamble_of(said[0], turns[first - 1].text if first else "") if said else None
    return {
        "session": session.id,
        "model": session.model or model,
        "item": session.item or None,
        "file": session.file,
        "line": session.line,
        "home": home,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "words_in": sum(map(count_words, put)),
        "words_out": sum(map(count_words, said)),
        "token_ratio": None if missing else tokens_out / tokens_in,
        "preamble_words": None if preamble is None else preamble.words,
        "preamble": (preamble.span or None) if preamble else None,
        "preamble_parts": (", ".join(preamble.rules) or None) if preamble else None,
        "missing": missing or None,
        "left_out": session.left_out,
    }


def _with_homes(rows: list[dict[str, Any]], boundary: float) -> dict[str, Home | None]:
    """Add to the rows where they stand against their model's home; return the homes by model, in order."""
    ratios: dict[str, list[float]] = {row["model"]: [] for row in rows}
    whole = [row for row in rows if row["missing"] is None]
    for row in whole:
        if row["home"]:
            ratios[row["model"]].append(row["token_ratio"])
    homes = {model: home_of(found, boundary) for model, found in ratios.items()}
    for row in whole:
        home, ratio = homes[row["model"]], row["token_ratio"]
        row["economy"] = side(ratio, boundary)
        if home is not None:
            row["home_shift"] = home.shift(ratio)
            row["economy_migration"] = None if row["home"] else home.migrated(ratio)
    return homes


@define
class _Copies:
    """The sessions as they were read, in JSON lines, unless they are too large to keep."""

    lines: list[bytes] = field(factory=list)
    size: int = 0

    def add(self, session: Session) -> None:
        entry = {
            "session": session.id,
            "model": session.model,
            "turns": [{"speaker": "model" if t.answer else "user", "text": t.text} for t in session.turns],
        }
        if self.size <= KEPT:
            self.lines.append(json.dumps(entry, ensure_ascii=False).encode("utf-8") + b"\n")
            self.size += len(self.lines[-1])
            if self.size > KEPT:
                self.lines.clear()


def _state(context: StepContext, tokenizer: Tokenizer, rows: list[dict[str, Any]]) -> None:
    context.fact("tokenizer", tokenizer.name)
    context.fact("tokenizer_sha256", tokenizer.sha256)
    context.fact("sessions", str(len(rows)))
    context.fact("models", " ".join(sorted({row["model"] for row in rows})))
    context.fact("preamble_rule", f"edition {EDITION}")
    context.fact("boundary", str(context.params["boundary"]))
    context.fact("baseline", f"{sum(row['home'] for row in rows)} sessions")
    context.fact("incomplete", f"{sum(row['missing'] is not None for row in rows)} sessions")
    context.fact(
        "intervals", f"over sessions, {RESAMPLES} samples: bootstrap-t of R on cube roots, percentile of P"
    )


def means_over_sessions(
    rows: Sequence[Mapping[str, Any]], streams: RandomStreams, key: str
) -> Iterator[Quantity]:
    """Yield mean R and mean P of whole sessions, with the slice `key`."""
    yield ratio_over_sessions("token_ratio", [row["token_ratio"] for row in rows], streams, key)
    padding = [row["preamble_words"] for row in rows]
    yield mean_over_sessions("preamble_words", padding, streams, key, "word")


def _quantities(
    context: StepContext, model: str, rows: list[dict[str, Any]], home: Home | None
) -> Iterator[Quantity]:
    rows = [row for row in rows if row["missing"] is None]
    yield from means_over_sessions(rows, context.random, model)
    away = [row for row in rows if not row["home"]]
    if home is None:
        note = "no baseline of at least two sessions was declared"
        for name in ("home_token_ratio", "migrated_share"):
            yield Quantity(name, None, None, UncertaintyKind.UNDEFINED, slice=model, note=note)
        return
    baseline = [row["token_ratio"] for row in rows if row["home"]]
    yield median_of_sessions("home_token_ratio", baseline, model)
    moved = sum(row["economy_migration"] != "none" for row in away)
    note = f"{home.chance:.3g} is expected by chance"
    yield share_of_sessions("migrated_share", moved, len(away), model, note)


def _require_matches(patterns: Sequence[str], files: Sequence[str]) -> None:
    """Refuse a pattern of the baseline that is no file's, which would leave a home unsaid."""
    for pattern in patterns:
        if not any(fnmatchcase(file, pattern) for file in files):
            near = get_close_matches(pattern, files, n=3, cutoff=0.4) or files[:3]
            raise BadInput(
                f"no session's file matches the baseline pattern {pattern!r}",
                where="baseline",
                fix=f"files are named below `sessions`, such as {', '.join(near)}",
            )
