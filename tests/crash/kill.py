"""Kills a run at each of its mutating calls, kills the recovery too, and checks what is left.

    python kill.py FOLDER SECOND_KILLS

prints one JSON object. Each scenario is a process that really dies by SIGKILL; fsync is skipped, as a
kill loses nothing that was handed to the kernel.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mini_run
import shim


def killer(at: int, mode: str) -> shim.Meddle:
    """Die before, half-way through or after the call number `at`."""
    count = 0

    def meddle(name: str, args: tuple[Any, ...], real: Callable[[], Any]) -> Any:
        nonlocal count
        now, count = count, count + 1
        if now == at:
            if mode == "half" and name == "write":
                shim.REAL["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
            elif mode == "after" and name != "fsync":
                with suppress(OSError):
                    real()
            os.kill(os.getpid(), signal.SIGKILL)
        return None if name == "fsync" else real()

    return meddle


def attempt(root: Path, at: int, mode: str) -> tuple[bool, set[str]]:
    """Run or resume in a process that dies at a call; return whether it died, and what it was told."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        code = 1
        try:
            shim.install(killer(at, mode))
            mini_run.resume(root, lambda head: shim.REAL["write"](writer, head.encode() + b"\n"))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        heads = set(pipe.read().split())
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise RuntimeError(f"{root}: the run failed instead of dying, at call {at} {mode}")
    return os.WIFSIGNALED(status), heads


def main(folder: Path, second_kills: int) -> dict[str, Any]:
    """Carry out the campaign."""
    scenarios, torn, bad = 0, 0, []

    def finish(root: Path, told: set[str], what: str) -> None:
        nonlocal scenarios, torn
        scenarios += 1
        journal = root / "journal.jsonl"
        torn += journal.exists() and not journal.read_bytes().endswith(b"\n")
        _, last = attempt(root, -1, "never")
        bad.extend(f"{what}: {fault}" for fault in mini_run.faults(root, told | last))
        shutil.rmtree(root)

    at = 0
    while True:
        for mode in ("before", "half", "after"):
            first = folder / f"first-{at}-{mode}"
            died, told = attempt(first, at, mode)
            if not died:
                return {"calls": at, "scenarios": scenarios, "torn": torn, "bad": bad}
            for second in range(second_kills):
                root = folder / f"second-{at}-{mode}-{second}"
                if first.exists():
                    shutil.copytree(first, root)
                point = 5 * second + at % 5  # over the campaign, every call of a recovery
                died, more = attempt(root, point, "half" if second % 2 else "after")
                finish(root, told | more, f"{at} {mode}, then {point}")
                if not died:
                    break
            if first.exists():
                finish(first, told, f"{at} {mode}")
        at += 1


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
