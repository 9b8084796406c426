"""A child process for one request: started with little, watched, and ended with all that it started.

Success is a `result` message on a private channel, never an exit code: a plugin that calls
`sys.exit(0)`, crashes, floods its output or hangs has not succeeded, and the host goes on. The channel
keeps accidents apart; a hostile plugin lives in the same process and could forge a message.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from attrs import frozen

from atlas.errors import AtlasError
from atlas.run.channel import LAST, Channel, Log
from atlas.run.environment import peak_memory
from atlas.run.failure import Ending, failure

__all__ = ["ChildResult", "OnMessage", "run_child"]

OnMessage = Callable[[Mapping[str, Any]], None]
"""Told of every message but the last, in the caller's thread."""

_GRACE = 2.0
_POLL = 0.1


@frozen
class ChildResult:
    """How a child ended that ended well.

    Attributes:
        message: Its last message, of kind `result` or `waiting`.
        seconds: Wall time from start to end.
        peak_memory: Bytes, where the platform tells.
    """

    message: Mapping[str, Any]
    seconds: float
    peak_memory: int | None


def run_child(
    request: Mapping[str, Any],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout_s: float | None,
    stdout: Path,
    stderr: Path,
    on_message: OnMessage,
) -> ChildResult:
    """Carry out a request in a process of its own.

    Args:
        request: A `StepRequest` or `FetchRequest` as plain values.
        folder: Where the process starts; an empty folder keeps stray modules out of it.
        environment: Its whole environment (`child_environment`).
        timeout_s: Wall time after which it is ended, or None.
        stdout: Where its output is kept.
        stderr: Where its error output is kept.
        on_message: Receives `ready`, `progress` and `check`.

    Raises:
        InstrumentFailed: It ended otherwise than with a result: the message says how, shows the last
            lines of its error output and names the full log.
        BadInput, PluginFault, IntegrityBroken, NotReproducible: The child raised it.
    """
    for log_file in (stdout, stderr):
        log_file.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    deadline = None if timeout_s is None else started + timeout_s
    with Channel() as channel, _start(folder, environment) as process:
        assert process.stdin and process.stdout and process.stderr
        logs: list[Log] = []
        try:
            logs.append(Log(process.stdout, stdout))
            logs.append(Log(process.stderr, stderr))
            header = {"address": channel.address, "key": channel.key.hex(), "request": request}
            _feed(process.stdin, json.dumps(header).encode("ascii") + b"\n")
            ending = _follow(process, channel, deadline, on_message)
        finally:
            _end(process)
            for log in logs:
                log.close()
    seconds = time.monotonic() - started
    if ending.message is not None and ending.message["kind"] in ("result", "waiting"):
        return ChildResult(ending.message, seconds, ending.peak_memory)
    raise failure(request, ending, seconds, logs[1])


@contextmanager
def _start(folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "atlas.run.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=dict(environment),
            start_new_session=os.name != "nt",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except OSError as error:
        raise AtlasError(f"a process could not be started: {error}", where=str(folder)) from error
    try:
        yield process
    finally:
        with suppress(OSError):  # what was not read when the process ended
            if process.stdin is not None:
                process.stdin.close()


def _follow(
    process: subprocess.Popen[bytes], channel: Channel, deadline: float | None, on_message: OnMessage
) -> Ending:
    """Pass messages on until the last one, the process's end or the deadline."""
    peak: int | None = None
    ended = False
    while True:
        peak = peak_memory(process.pid) or peak
        if deadline is not None and time.monotonic() > deadline:
            return Ending(None, peak, process.poll(), timed_out=True)
        try:
            message = channel.messages.get(timeout=_POLL)
        except queue.Empty:
            if ended:
                return Ending(None, peak, process.returncode)
            # One more round after its end, so that no last word is missed.
            ended = process.poll() is not None
            continue
        if message is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            return Ending(None, peak, process.returncode)
        if message["kind"] in LAST:
            return Ending(message, peak, process.poll())
        on_message(message)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, politely first."""
    if process.poll() is None:
        _signal(process, force=False)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    _signal(process, force=True)
    process.wait()


def _signal(process: subprocess.Popen[bytes], *, force: bool) -> None:
    if sys.platform == "win32":
        if force and process.poll() is None:
            subprocess.run(
                ["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False
            )
        return
    with suppress(ProcessLookupError, PermissionError):  # the group is empty, or holds only zombies (macOS)
        os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)


def _feed(stream: IO[bytes], data: bytes) -> None:
    """Write the request without waiting for a child that may never read it."""

    def write() -> None:
        with suppress(OSError, ValueError):  # the child has ended: its end is what counts
            stream.write(data)
            stream.flush()

    threading.Thread(target=write, daemon=True).start()
