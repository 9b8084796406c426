"""The instrument `ecm-live`: sessions held with a local model, then read like sessions from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from atlas.contracts import StimulusItem
from atlas_ecm.live.sessions import Held, hold_sessions, tasks_of
from atlas_ecm.reader.intervals import share_of_sessions
from atlas_ecm.reader.measurement import means_over_sessions, record_sessions
from atlas_ecm.reader.schemas import HELD
from atlas_ecm.reader.tokens import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.contracts import GenerativeTarget, StepContext

__all__ = ["measure"]

_EVIDENCE = "held.jsonl"


def measure(context: StepContext) -> None:
    """Hold the sessions, one process each, and record what the reader makes of them.

    Raises:
        BadInput: The model does not write, a prompt does not fit it, or sessions would repeat each other.
        InstrumentFailed: A session's process ended without an answer, or another model answered.
    """
    params = context.params
    items = {item.id: item for part in context.slices for item in part.items}
    context.check(
        "whole prompts",
        context.max_tokens is None,
        "the prompts are put whole"
        if context.max_tokens is None
        else f"the stimulus cuts prompts to {context.max_tokens} tokens; leave its max_tokens out",
    )
    tasks = tasks_of([item for part in context.slices for item in part.items], context.random, params)
    opener = cast("Callable[[], GenerativeTarget]", context.opener())
    held = list(
        hold_sessions(opener, tasks, keep=context.keep, scratch=context.scratch, progress=context.progress)
    )
    target = cast("GenerativeTarget", context.target())
    _check_model(context, held, target.facts)
    model = target.facts.get("model", "model")
    evidence = b"".join(one.json_line(model) for one in held)
    context.attach(_EVIDENCE, evidence)
    context.table(HELD.name, [one.as_record() for one in held])
    _state(context, held, items)
    path = context.scratch / _EVIDENCE
    path.write_bytes(evidence)
    home = {item.id for item in items.values() if _matches(item, params.get("baseline", {}))}
    rows = record_sessions(
        context, path, _tokenizer(target), model, home=lambda session: session.item in home
    )
    if len(context.slices) > 1:
        for part in context.slices:
            inside = {item.id for item in part.items}
            found = [row for row in rows if row["item"] in inside and row["missing"] is None]
            for quantity in means_over_sessions(found, context.random, part.key):
                context.record(quantity)
    cut = sum(not one.ended for one in held)
    note = f"cut at {params['max_new_tokens']} tokens; R of these would be larger"
    context.record(share_of_sessions("cut_share", cut, len(held), model, note))


def _check_model(context: StepContext, held: Sequence[Held], facts: Mapping[str, str]) -> None:
    """Refuse sessions that other weights or libraries answered, and have them held anew."""
    odd = [number for number, one in enumerate(held) if dict(one.facts) != dict(facts)]
    for number in odd:
        (context.keep / f"{number:06}.json").unlink()
    detail = f"{len(held) - len(odd)} of {len(held)} sessions were answered by the model as it is now"
    context.check("one model", not odd, detail + ("; `atlas resume` holds the others anew" if odd else ""))


def _state(context: StepContext, held: Sequence[Held], items: Mapping[str, StimulusItem]) -> None:
    context.fact("pairs", " ".join(sorted({i.attributes.get("pair", i.id) for i in items.values()})))
    frames = {"{prompt}".join(one.frame) for one in held}
    context.fact("frame", " | ".join(sorted(frames)))
    context.fact("processes", f"{len(held)}, one a session")
    drawn = context.params["temperature"] > 0
    context.fact("decoding", f"drawn at {context.params['temperature']}" if drawn else "likeliest token")
    context.fact("max_new_tokens", str(context.params["max_new_tokens"]))


def _matches(item: StimulusItem, wanted: Mapping[str, Sequence[str]]) -> bool:
    return bool(wanted) and all(item.attributes.get(name) in values for name, values in wanted.items())


def _tokenizer(target: Any) -> Tokenizer:
    facts = target.facts
    return Tokenizer(
        facts.get("tokenizer", "the model's own"),
        facts.get("tokenizer_sha256", "not stated"),
        target.count_tokens,
    )
