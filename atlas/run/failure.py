"""How a child process failed, told so that a person knows what happened, to whom, and what to read."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from atlas.errors import AtlasError, BadInput, InstrumentFailed, IntegrityBroken, NotReproducible, PluginFault
from atlas.run.channel import Log

__all__ = ["Ending", "failure"]


@frozen
class Ending:
    """What the host saw of a child's end.

    Attributes:
        message: The last message, where there was one.
        peak_memory: Bytes, where the platform tells.
        code: Exit code, or minus the signal; None where the host ended it.
        timed_out: Whether its time was up.
    """

    message: Mapping[str, Any] | None
    peak_memory: int | None
    code: int | None
    timed_out: bool = False


_KILLED = -9
"""SIGKILL, which not every platform names."""
_LESS = "ask for less: a smaller batch, fewer tokens, a smaller model"
_CHILD_ERRORS = (BadInput, InstrumentFailed, IntegrityBroken, NotReproducible, PluginFault)


def failure(request: Mapping[str, Any], ending: Ending, seconds: float, log: Log) -> AtlasError:
    """Return the error that says how a child failed."""
    if request["kind"] == "step":
        name = f"step {request['step']!r}"
    else:
        name = f"fetching target {request['name']!r}"
    who = request["who"]
    read_log = f"read {log.path}"
    said = ending.message or {}
    for known in _CHILD_ERRORS:
        if said.get("error") == known.__name__:
            return known(
                f"{name}: {said['what']}",
                where=said.get("where"),
                who=said.get("who") or who,
                fix=said.get("fix") or (read_log if log.tail.strip() else None),
            )
    peak = "" if ending.peak_memory is None else f"; its peak was {ending.peak_memory / 2**30:.2f} GiB"
    if said.get("memory"):
        return InstrumentFailed(
            f"{name} ran out of memory{peak}: {said['what']}",
            where=said.get("where"),
            who=who,
            fix=_LESS,
        )
    if said:
        what = f"{name} failed: {said['error']}: {said['what']}"
        if said["error"] == "SystemExit":
            what = f"{name} called sys.exit({said['what']}) instead of returning"
        return InstrumentFailed(what, where=said.get("where"), who=who, fix=read_log)
    what = f"{name} {_fate(ending, seconds, peak)}"
    lines = log.tail.decode("utf-8", "replace").splitlines()[-12:]
    if lines:
        what += "; the last lines of its error output:\n" + "\n".join(f"    {line}" for line in lines)
    if ending.timed_out:
        fix = f"give the step a larger `timeout_s`, or {_LESS}"
    else:
        fix = f"{_LESS}; {read_log}" if ending.code == _KILLED else read_log
    return InstrumentFailed(what, who=who, fix=fix)


def _fate(ending: Ending, seconds: float, peak: str) -> str:
    if ending.timed_out:
        return f"did not end within its limit and was stopped after {seconds:.0f} s{peak}"
    if ending.code is None:
        return "closed its channel without a result and was stopped"
    if ending.code == 0:
        return "ended with exit code 0 but without a result"
    if ending.code > 0:
        return f"ended with exit code {ending.code} ({ending.code:#x}) and without a result"
    names = {number.value: number.name for number in signal.Signals}
    name = names.get(-ending.code, f"signal {-ending.code}")
    if name == "SIGKILL":
        return f"was killed (SIGKILL) after {seconds:.0f} s: most likely the machine was out of memory{peak}"
    return f"crashed ({name}) after {seconds:.0f} s{peak}"
