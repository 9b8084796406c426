"""The instrument `ecm-live`: sessions held with a local model, then read like sessions from files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve

from atlas.contracts import StimulusItem
from atlas.errors import BadInput
from atlas_ecm.live.session import Task
from atlas_ecm.live.sessions import Held, hold_sessions, tasks_of
from atlas_ecm.reader.intervals import share_of_sessions
from atlas_ecm.reader.measurement import means_over_sessions, record_sessions
from atlas_ecm.reader.schemas import HELD
from atlas_ecm.reader.tokens import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from atlas.contracts import GenerativeTarget, StepContext

__all__ = ["home_items", "measure"]

_EVIDENCE = "held.jsonl"


def measure(context: StepContext) -> None:
    """Hold the sessions, one process each, and record what the reader makes of them.

    Of a series each checkpoint is put the same prompts with the same draws, and is a model of its own, named
    by its label, in every table.

    Raises:
        BadInput: No item is of the baseline, the model does not write, a prompt does not fit it, or sessions
            would repeat each other.
        InstrumentFailed: A session's process ended without an answer, another model answered, or checkpoints
            count tokens differently.
    """
    params = context.params
    items = {item.id: item for part in context.slices for item in part.items}
    home = home_items(list(items.values()), params.get("baseline", {}))
    context.check(
        "whole prompts",
        context.max_tokens is None,
        "the prompts are put whole"
        if context.max_tokens is None
        else f"the stimulus cuts prompts to {context.max_tokens} tokens; leave its max_tokens out",
    )
    tasks = tasks_of([item for part in context.slices for item in part.items], context.random, params)
    answered = dict(_hold_all(context, tasks))
    held, lines, tokenizers = list[Held](), list[bytes](), list[Tokenizer]()
    for label, target in context.targets():
        keep, own = answered[label]
        _check_model(context, own, target.facts, keep)
        tokenizers.append(_tokenizer(target))
        held.extend(own)
        lines.extend(one.json_line(label or target.facts.get("model", "model")) for one in own)
        del target
    _check_tokenizer(context, tokenizers)
    evidence = b"".join(lines)
    context.attach(_EVIDENCE, evidence)
    context.table(HELD.name, [one.as_record() for one in held])
    _state(context, held, items)
    path = context.scratch / _EVIDENCE
    path.write_bytes(evidence)
    rows = record_sessions(context, path, tokenizers[0], "model", home=lambda session: session.item in home)
    _record_slices(context, rows, list(answered))
    note = f"cut at {params['max_new_tokens']} tokens; R of these would be larger"
    for model in dict.fromkeys(row["model"] for row in rows):
        named = {row["session"] for row in rows if row["model"] == model}
        cut = sum(not one.ended for one in held if one.task.session in named)
        context.record(share_of_sessions("cut_share", cut, len(named), model, note))


def _hold_all(context: StepContext, tasks: Sequence[Task]) -> Iterator[tuple[str, tuple[Path, list[Held]]]]:
    """Yield, for the target or each member of its series, label, where sessions are kept, and sessions."""
    for number, (label, opener) in enumerate(context.openers(), 1):
        named = [evolve(task, session=f"{label}/{task.session}") if label else task for task in tasks]
        keep = context.keep / f"target{number}"
        keep.mkdir(exist_ok=True)
        opens = cast("Callable[[], GenerativeTarget]", opener)
        progress = partial(context.progress, f"{label}: sessions held" if label else "sessions held")
        held = hold_sessions(opens, named, keep=keep, scratch=context.scratch, progress=progress)
        yield label, (keep, list(held))


def _record_slices(context: StepContext, rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> None:
    if len(context.slices) < 2:
        return
    for label in labels:
        for part in context.slices:
            inside = {item.id for item in part.items}
            found = [
                row for row in rows
                if row["item"] in inside and row["missing"] is None and label in ("", row["model"])
            ]  # fmt: skip
            key = f"{label}: {part.key}" if label else part.key
            for quantity in means_over_sessions(found, context.random, key):
                context.record(quantity)


def _check_model(context: StepContext, held: Sequence[Held], facts: Mapping[str, str], keep: Path) -> None:
    """Refuse sessions that other weights or libraries answered, and have them held anew."""
    odd = [number for number, one in enumerate(held) if dict(one.facts) != dict(facts)]
    for number in odd:
        (keep / f"{number:06}.json").unlink()
    detail = f"{len(held) - len(odd)} of {len(held)} sessions were answered by the model as it is now"
    context.check("one model", not odd, detail + ("; `atlas resume` holds the others anew" if odd else ""))


def _check_tokenizer(context: StepContext, tokenizers: Sequence[Tokenizer]) -> None:
    """Refuse a series whose members count tokens differently: their R could not be compared."""
    digests = {one.sha256 for one in tokenizers}
    if len(tokenizers) > 1:
        detail = (
            f"{len(tokenizers)} checkpoints count tokens alike"
            if len(digests) == 1
            else f"the checkpoints have {len(digests)} tokenizers; give each model a step of its own"
        )
        context.check("one tokenizer", len(digests) == 1, detail)


def _state(context: StepContext, held: Sequence[Held], items: Mapping[str, StimulusItem]) -> None:
    context.fact("pairs", " ".join(sorted({i.attributes.get("pair", i.id) for i in items.values()})))
    frames = {"{prompt}".join(one.frame) for one in held}
    context.fact("frame", " | ".join(sorted(frames)))
    context.fact("processes", f"{len(held)}, one a session")
    drawn = context.params["temperature"] > 0
    context.fact("decoding", f"drawn at {context.params['temperature']}" if drawn else "likeliest token")
    context.fact("max_new_tokens", str(context.params["max_new_tokens"]))


def home_items(items: Sequence[StimulusItem], wanted: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the items of the baseline.

    Raises:
        BadInput: A baseline is declared, and no item is of it.
    """
    found = {item.id for item in items if _matches(item, wanted)}
    if wanted and not found:
        named = {name: sorted({i.attributes[name] for i in items if name in i.attributes}) for name in wanted}
        had = "; ".join(
            f"{name} is {', '.join(values[:12])}" if values else f"no item has a {name}"
            for name, values in named.items()
        )
        raise BadInput("no item of the stimulus is of the baseline", where="baseline", fix=f"in it {had}")
    return found


def _matches(item: StimulusItem, wanted: Mapping[str, Sequence[str]]) -> bool:
    return bool(wanted) and all(item.attributes.get(name) in values for name, values in wanted.items())


def _tokenizer(target: Any) -> Tokenizer:
    facts = target.facts
    return Tokenizer(
        facts.get("tokenizer", "the model's own"),
        facts.get("tokenizer_sha256", "not stated"),
        target.count_tokens,
    )
