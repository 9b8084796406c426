"""Holding sessions one after the other: a fresh process each, and none twice after an interruption."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from atlas.contracts import GenerativeTarget, StimulusItem
from atlas.errors import BadInput, InstrumentFailed
from atlas.randomness import RandomStreams
from atlas_ecm.live.session import Task

__all__ = ["Held", "hold_sessions", "tasks_of"]

_MODULE = "atlas_ecm.live.session"


@frozen
class Held:
    """A session that is over.

    Attributes:
        task: What was put.
        output: What the model answered.
        tokens: Ids of the tokens that it wrote.
        ended: It ended by itself.
        frame: What stood before and after the prompt.
        facts: Of the model that answered.
    """

    task: Task
    output: str
    tokens: tuple[int, ...]
    ended: bool
    frame: tuple[str, str]
    facts: Mapping[str, str]

    def json_line(self, model: str) -> bytes:
        """Return the session as evidence: a JSON line that the reader reads."""
        entry = {
            "session": self.task.session,
            "model": model,
            "item": self.task.item,
            "prompt": self.task.prompt,
            "output": self.output,
            "tokens": list(self.tokens),
            "ended": self.ended,
            "seed": self.task.seed,
        }
        return json.dumps(entry, ensure_ascii=False).encode("utf-8") + b"\n"

    def as_record(self) -> dict[str, Any]:
        """Return the row of the table `ecm-held`."""
        return {
            "session": self.task.session,
            "item": self.task.item,
            "seed": None if self.task.seed is None else str(self.task.seed),
            "ended": self.ended,
            "tokens": len(self.tokens),
            "prompt_sha256": _sha256(self.task.prompt),
            "output_sha256": _sha256(self.output),
        }


def tasks_of(
    items: Sequence[StimulusItem], streams: RandomStreams, params: Mapping[str, Any]
) -> tuple[Task, ...]:
    """Return the sessions to hold: each item as often as asked for, with a seed of its own.

    A seed hangs on the step's seed, the item's id and the session's number alone, so that neither order nor
    other items change it.

    Raises:
        BadInput: An item is to be put again without draws, or two items have one id.
    """
    drawn = params["temperature"] > 0
    if params["sessions"] > 1 and not drawn:
        raise BadInput(
            "at temperature 0 all sessions of an item are the same",
            where="sessions",
            fix="set `temperature` above 0, or leave `sessions` at 1",
        )
    if len({item.id for item in items}) < len(items):
        raise BadInput("two items of the stimulus have one id", where="stimulus")
    asked = {name: params[name] for name in ("chat", "max_new_tokens", "temperature")}
    return tuple(
        Task(
            session=item.id if params["sessions"] == 1 else f"{item.id}.{number}",
            item=item.id,
            prompt=item.text,
            seed=_seed(streams, item.id, number) if drawn else None,
            **asked,
        )
        for number in range(1, params["sessions"] + 1)
        for item in items
    )


def _seed(streams: RandomStreams, item: str, number: int) -> int:
    return int(streams.generator("ecm session", index=number, name=item).integers(2**63))


def hold_sessions(
    open_target: Callable[[], GenerativeTarget],
    tasks: Sequence[Task],
    *,
    keep: Path,
    scratch: Path,
    progress: Callable[..., None],
) -> Iterator[Held]:
    """Yield the sessions in order; those that an earlier attempt completed are taken from `keep`.

    Args:
        open_target: Opens the model; it is pickled for each process.
        tasks: The sessions.
        keep: Where each session is put once it is over.
        scratch: Where a process writes.
        progress: Told how many sessions are over, `done` of `total`.

    Raises:
        BadInput: A process refused its prompt or its model.
        InstrumentFailed: A process ended without an answer.
    """
    for number, task in enumerate(tasks):
        progress(done=number, total=len(tasks))
        path = keep / f"{number:06}.json"
        held = _kept(path, task)
        if held is None:
            _run(open_target, task, scratch / "session.json").replace(path)
            held = _kept(path, task)
        if held is None:
            raise InstrumentFailed("the session's process wrote something else", where=task.session)
        yield held
    progress(done=len(tasks), total=len(tasks))


def _kept(path: Path, task: Task) -> Held | None:
    """Return a session that is over; None where there is none, or what lies there is torn or another's."""
    try:
        entry = json.loads(path.read_bytes())
        own = {name: entry.pop(name) for name in asdict(task)}
        held = Held(
            Task(**own),
            entry["output"],
            tuple(entry["tokens"]),
            entry["ended"],
            (entry["frame"][0], entry["frame"][1]),
            entry["facts"],
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None  # to be held anew
    return held if held.task == task else None


def _run(open_target: Callable[[], GenerativeTarget], task: Task, path: Path) -> Path:
    """Hold a session in a process of its own and return the file that it wrote."""
    path.unlink(missing_ok=True)
    ended = subprocess.run(
        [sys.executable, "-m", _MODULE], input=pickle.dumps((open_target, task, str(path))), check=False
    )
    if ended.returncode == 0 and path.is_file():
        return path
    if path.is_file():
        fault = json.loads(path.read_bytes())
        raise BadInput(fault["what"], where=fault["where"] or task.session, fix=fault["fix"])
    raise InstrumentFailed(
        f"the process of the session ended with status {ended.returncode}",
        where=task.session,
        fix="its last words are in the step's log; `atlas resume` goes on after the last whole session",
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
