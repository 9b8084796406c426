"""The vocabulary: terms with their states, meaning, mathematics, sources and status, as package data."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml
from attrs import frozen

from atlas.errors import BadInput

__all__ = ["Proxy", "Term", "Vocabulary", "find_term", "page", "spelled", "terms_measured_by", "vocabulary"]

_ROLES = {
    "generative": "What sets movement going",
    "flow": "What meets movement",
    "claim": "Claims",
    "problem": "Open problems",
}


@frozen
class Term:
    """One term.

    Attributes:
        id: Lower-case words joined by `-`.
        term: As people write it.
        role: `generative`, `flow`, `claim` or `problem`.
        states: The two states that it can be read as; empty where it has none.
        plain: Meaning without mathematics.
        mathematics: The quantities that stand for it.
        measured_by: Instruments of Atlas that measure these.
        sources: Where it comes from.
        status: What is known of it.
    """

    id: str
    term: str
    role: str
    states: tuple[str, ...]
    plain: str
    mathematics: str
    measured_by: tuple[str, ...]
    sources: tuple[str, ...]
    status: str


@frozen
class Proxy:
    """A geometric signal that may stand for a term.

    Attributes:
        id: The signal's id on the link sheet.
        term: Id of the term.
        name: What the link sheet calls it.
        quantity: Name of the measured quantity.
        high: Whether a high value stands for the term; else a low one.
    """

    id: str
    term: str
    name: str
    quantity: str
    high: bool


@frozen
class Vocabulary:
    """All terms of a revision, in reading order, and the proxies of the link sheet."""

    revision: str
    terms: tuple[Term, ...]
    proxies: tuple[Proxy, ...]


@cache
def vocabulary() -> Vocabulary:
    """Return the vocabulary that ships with the plugin."""
    data = yaml.safe_load(Path(__file__).with_name("vocabulary.yaml").read_text(encoding="utf-8"))
    terms = tuple(
        Term(**entry | {name: tuple(entry[name]) for name in ("states", "measured_by", "sources")})
        for entry in data["terms"]
    )
    return Vocabulary(data["revision"], terms, tuple(Proxy(**entry) for entry in data["signals"]))


def find_term(name: str) -> Term:
    """Return a term by its id, its name or one of its states, whatever the case.

    Raises:
        BadInput: There is none; the message names the close ones.
    """
    asked = name.strip().casefold()
    known = {}
    for term in vocabulary().terms:
        for key in (*term.states, term.term.casefold(), term.id.replace("-", " "), term.id):
            known[key] = term
    if asked not in known:
        close = get_close_matches(asked, known, n=3) or [term.id for term in vocabulary().terms]
        raise BadInput(f"the vocabulary has no term {name!r}", fix=f"try {', '.join(close)}")
    return known[asked]


def terms_measured_by(instrument: str) -> tuple[Term, ...]:
    """Return the terms that an instrument measures quantities of, in reading order."""
    return tuple(term for term in vocabulary().terms if instrument in term.measured_by)


def _lines(term: Term) -> list[tuple[str, str]]:
    return [
        ("States", " / ".join(term.states)),
        ("Mathematics", term.mathematics),
        ("Measured by", ", ".join(term.measured_by)),
        ("Sources", "; ".join(term.sources)),
        ("Status", term.status),
    ]


def spelled(term: Term) -> str:
    """Return a term as text for the terminal, plain language first."""
    lines = [f"{term.term} ({vocabulary().revision})", "", term.plain, ""]
    return "\n".join(lines + [f"{head}: {text}" for head, text in _lines(term) if text])


def page() -> str:
    """Return the documentation page of the vocabulary, Markdown."""
    words = vocabulary()
    parts = [
        "# Vocabulary",
        f"Revision {words.revision}. Made from the plugin's `vocabulary.yaml` by `atlas vocab --page`; a "
        "test keeps it so. Read the plain words first. A status that says *hypothesis* or *open* means it.",
    ]
    for role, heading in _ROLES.items():
        parts.append(f"## {heading}")
        parts += [_section(term) for term in words.terms if term.role == role]
    parts += ["## Proxies of the link sheet", _proxies(words.proxies)]
    return "\n\n".join(parts) + "\n"


def _section(term: Term) -> str:
    facts = "\n".join(f"- **{head}:** {text}" for head, text in _lines(term) if text)
    return f"### {term.term}\n\n{term.plain}\n\n{facts}"


def _proxies(proxies: Sequence[Proxy]) -> str:
    rows = [
        f"| {p.name} | `{p.quantity}` | {'high' if p.high else 'low'} | {p.term} | PROVISIONAL |"
        for p in proxies
    ]
    head = ["| proxy | quantity | when it is | term | status |", "| --- | --- | --- | --- | --- |"]
    note = (
        "\n\n*High* and *low* are always relative to a declared reference, other slices or other "
        "checkpoints. An entry stays PROVISIONAL until a person signs it with a Tier A behavioural record: "
        "`atlas link sign`."
    )
    return "\n".join(head + rows) + note
