"""The report's section on sessions: homes, R and P with what was taken for padding, and persons' codes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from atlas.contracts import Fragment
from atlas.judgements import BlankTable, Judgements, blank_tables, judgements
from atlas.quantities import Quantity, UncertaintyKind
from atlas_ecm.reader.home import home_quadrant, migration
from atlas_ecm.reader.schemas import SESSIONS
from atlas_ecm.reader.tokens import WORDS
from atlas_ecm.sections.strips import Mark, Row, draw

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["LISTED", "interval", "render", "table"]

LISTED = 100
"""Sessions that are listed one by one."""

_HEADS = ("session", "R", "P", "taken for padding", "against home", "stance", "code", "quadrant")
_BLANK = '<span class="hint">blank</span>'


def render(view: RunView, step: str) -> Fragment:
    """Render a step of `ecm` or `ecm-live`."""
    rows = view.tables(step)[SESSIONS.name]
    facts: dict[str, str] = json.loads(view.text(f"raw/{step}/facts.json"))
    boundary = float(facts["boundary"])
    blank = next(t for t in blank_tables(view) if (t.step, t.name) == (step, SESSIONS.name))
    coders = judgements(view, blank)
    found = {(q.quantity, q.slice): q for name, q in view.quantities() if name == step}
    models = list(dict.fromkeys(row["model"] for row in rows))
    homes = {
        coder: {
            model: home_quadrant([r for r in rows if r["model"] == model], _stances(judged), boundary)
            for model in models
        }
        for coder, judged in coders.items()
    }
    parts = [_models(models, rows, found, homes), _picture(models, rows, boundary)]
    parts.append(_lead(facts, blank, coders))
    parts.append(_listed(rows, coders, boundary))
    if len(rows) > LISTED:
        parts.append(
            f'<p class="hint">{len(rows) - LISTED} more in raw/{escape(step)}/{SESSIONS.name}.csv.</p>'
        )
    return Fragment("Sessions: economy and padding", "\n".join(parts))


def interval(quantity: Quantity | None) -> str:
    """Return a quantity in words: value, interval, number; or why there is none."""
    if quantity is None:
        return ""
    if quantity.value is None:
        return f"none: {quantity.note}"
    value = _short(quantity.value)
    if quantity.uncertainty_kind is UncertaintyKind.UNCERTIFIED or quantity.low is None:
        return f"{value}, without interval" + (f": {quantity.note}" if quantity.note else "")
    return f"{value} ({_short(quantity.low)} to {_short(quantity.high or 0.0)}; n {quantity.num_samples})"


def _short(number: float) -> str:
    """Return a number with three digits that count, and no exponent below a million."""
    return f"{float(f'{number:.3g}'):g}"


def table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _stances(judged: Judgements) -> dict[str, str]:
    return {key[0]: cells["stance"] for key, cells in judged.values.items() if "stance" in cells}


def _models(
    models: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    found: Mapping[tuple[str, str], Quantity],
    homes: Mapping[str, Mapping[str, str]],
) -> str:
    names = ("token_ratio", "preamble_words", "home_token_ratio", "migrated_share", "cut_share")
    titles = ("mean R", "mean P, words", "median R at home", "left home", "cut short")
    shown = [
        (name, title)
        for name, title in zip(names, titles, strict=True)
        if any((name, model) in found for model in models)
    ]

    def cells(model: str) -> Iterator[str]:
        yield escape(model)
        yield str(sum(row["model"] == model for row in rows))
        for name, _ in shown:
            yield escape(interval(found.get((name, model))))
        given = [f"{coder}: {quadrants[model] or 'open'}" for coder, quadrants in homes.items()]
        yield "<br>".join(map(escape, given)) or _BLANK

    heads = ("model", "sessions", *(title for _, title in shown), "home quadrant")
    return table(heads, (tuple(cells(model)) for model in models))


def _picture(models: Sequence[str], rows: Sequence[Mapping[str, Any]], boundary: float) -> str:
    drawn = []
    for model in models:
        own = [row for row in rows if row["model"] == model and row["token_ratio"]]
        home = [row["token_ratio"] for row in own if row["home"]]
        band = (min(home), max(home)) if len(home) > 1 else None
        marks = tuple(Mark(row["token_ratio"], strong=not row["home"]) for row in own[:2000])
        if marks:
            drawn.append(Row(model, marks, band))
    if not drawn:
        return ""
    axis = f"R, tokens given for each that was put; dashed: the boundary {boundary:g}"
    caption = (
        "Each session's R on a logarithmic axis. Open circles are the baseline, the band its range: "
        "a session outside it has left home."
    )
    picture = draw(drawn, axis=axis, reference=boundary, logarithmic=True)
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _lead(facts: Mapping[str, str], blank: BlankTable, coders: Mapping[str, Judgements]) -> str:
    who = f"Coded by {', '.join(coders)}." if coders else "No person has coded these sessions yet."
    words = facts["tokenizer"] == WORDS.name
    said = (
        f"{'Tokens are words by white space' if words else 'Tokens by ' + facts['tokenizer']}; padding by "
        f"the rule's {facts['preamble_rule']}, with the words it took shown. Intervals are 95%, over "
        f"sessions. {who} Stance and code are a person's; quadrants are worked out from stances."
    )
    return f"<p>{escape(said)}</p>"


def _listed(rows: Sequence[Mapping[str, Any]], coders: Mapping[str, Judgements], boundary: float) -> str:
    moves = {
        coder: {one.session: one for one in migration(rows, _stances(judged), boundary)}
        for coder, judged in coders.items()
    }

    def cells(row: Mapping[str, Any]) -> Iterator[str]:
        key = row["session"]
        yield escape(key if row["item"] in (None, key) else f"{key}, {row['item']}")
        yield "" if row["token_ratio"] is None else f"{row['token_ratio']:.3g}"
        yield "" if row["preamble_words"] is None else str(row["preamble_words"])
        yield _padding(row)
        yield escape(_against(row))
        for column in ("stance", "resolution_code"):
            given = [
                f"{coder}: {judged.values[key,][column]}"
                for coder, judged in coders.items()
                if column in judged.values.get((key,), {})
            ]
            yield "<br>".join(map(escape, given)) or _BLANK
        found = [(coder, ours[key]) for coder, ours in moves.items() if key in ours]
        told = [f"{coder}: {m.quadrant} ({m.direction})" for coder, m in found if m.quadrant]
        yield "<br>".join(map(escape, told))

    return table(_HEADS, (tuple(cells(row)) for row in rows[:LISTED]))


def _padding(row: Mapping[str, Any]) -> str:
    if not row["preamble"]:
        return ""
    parts = row.get("preamble_parts")
    return f"<q>{escape(row['preamble'])}</q>" + (f" <small>{escape(parts)}</small>" if parts else "")


def _against(row: Mapping[str, Any]) -> str:
    if row["missing"]:
        return f"no {row['missing']}"
    if row["home"]:
        return "home"
    moved = row["economy_migration"]
    if moved is None:
        return f"{row['economy']}; no home declared"
    shift = "" if row["home_shift"] is None else f", {2 ** row['home_shift']:.2g} times home"
    return ("within home" if moved == "none" else f"left home, {moved}") + shift
