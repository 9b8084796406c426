"""The program of one session's process: opens the model, puts one prompt, writes the answer down, ends.

It reads a pickle of its one task from standard input, from the step that started it, and knows nothing
else: neither another prompt nor another answer has ever been in its memory.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from atlas.contracts import GenerativeTarget
from atlas.errors import AtlasError, BadInput
from atlas.randomness import RandomStreams

__all__ = ["Task", "hold", "main"]


@frozen
class Task:
    """One session: what is put, and how it is answered.

    Attributes:
        session: Its name.
        item: The stimulus item.
        prompt: The item's text.
        seed: Of its draws; None where nothing is drawn.
        chat: Put the prompt as a turn of the chat template.
        max_new_tokens: Most tokens of the answer.
        temperature: 0 for the likeliest token each time.
    """

    session: str
    item: str
    prompt: str
    seed: int | None
    chat: bool
    max_new_tokens: int
    temperature: float


def hold(open_target: Callable[[], GenerativeTarget], task: Task) -> dict[str, Any]:
    """Hold the session and return it as plain values: the task, what the model wrote, the model's facts.

    Raises:
        BadInput: The target generates nothing, or the prompt does not fit it.
    """
    target = open_target()
    if not hasattr(target, "generate"):
        raise BadInput(
            f"sessions need a model that writes; this target's task is {target.facts.get('task', 'unknown')}",
            where="targets",
            fix="name a causal language model",
        )
    said = target.generate(
        task.prompt,
        chat=task.chat,
        max_new_tokens=task.max_new_tokens,
        temperature=task.temperature,
        random=RandomStreams(0 if task.seed is None else task.seed),
    )
    return {
        **asdict(task),
        "output": said.text,
        "tokens": list(said.tokens),
        "ended": said.ended,
        "frame": list(said.frame),
        "facts": dict(target.facts),
    }


def main() -> int:
    """Hold the session that standard input names; return the exit status."""
    open_target, task, path = pickle.load(sys.stdin.buffer)
    try:
        found = hold(open_target, task)
        code = 0
    except AtlasError as error:
        found = {"what": error.what, "where": error.where, "fix": error.fix}
        code = 1
    Path(path).write_text(json.dumps(found), encoding="ascii")
    return code


if __name__ == "__main__":
    sys.exit(main())
