"""The processes that train one model together on this machine: a step's own, and those that it starts.

They find each other on the loopback, which a step's closed network has to itself, and are told their places
by the variables that `torchrun` sets, so that a training need not know who started it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from atlas.errors import InstrumentFailed

__all__ = ["joint_processes"]

_DEATH_OF_PARENT = 1
"""Of Linux's prctl: the signal that a process gets when its parent ends."""
_GRACE = 5.0
"""Seconds in which a training itself may notice that it lost a process."""
_FAREWELL = 60.0
"""Seconds in which the others may end when all is done."""


@contextmanager
def joint_processes(count: int, work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Have further processes do `work(*arguments)` while this one, the first, does its own part within.

    Args:
        count: Of processes, this one among them; with 1 nothing is started.
        work: A function of a module; it and its arguments are pickled.
        arguments: Its own.

    Where one of the others ends before its time and this one waits for it in code that cannot be interrupted,
    as a rendezvous does, this process ends too, with the message on its error output.

    Raises:
        InstrumentFailed: One of the others ended before its time.
    """
    if count == 1:
        yield
        return
    before, place = dict(os.environ), {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    place |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    if sys.platform == "linux":
        place |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=_other, args=(rank, place, os.getpid(), work, arguments), daemon=True)
        for rank in range(1, count)
    ]
    os.environ.update(place | {"RANK": "0", "LOCAL_RANK": "0"})
    done = threading.Event()
    try:
        for process in others:
            process.start()
        threading.Thread(target=_watch, args=(others, count, done), daemon=True).start()
        try:
            yield
        except RuntimeError as error:  # of torch.distributed, when it loses a peer
            if lost := _lost(others, count):
                raise lost from error
            raise
        for process in others:
            process.join(_FAREWELL)
        if lost := _lost(others, count):
            raise lost
    finally:
        done.set()
        for process in others:
            if process.is_alive():
                process.kill()
        _leave_group()
        os.environ.clear()
        os.environ.update(before)


def _lost(others: list[Any], count: int) -> InstrumentFailed | None:
    """Return what to raise where a process ended badly; one that is about to end is awaited."""
    for rank, process in enumerate(others, 1):
        process.join(timeout=1)
        if process.exitcode:
            how = f"with status {process.exitcode}"
            if process.exitcode < 0:
                how = f"by {signal.Signals(-process.exitcode).name}"
            return InstrumentFailed(
                f"process {rank + 1} of {count} ended {how}, and the others cannot go on without it",
                where="processes",
                fix="its own message is above in the step's output; with less memory a batch or a process "
                "fewer may do, and `atlas resume` goes on from the last kept state",
            )
    return None


def _watch(others: list[Any], count: int, done: threading.Event) -> None:
    """End this process where another ended badly and the training does not notice."""
    while not done.wait(1.0):
        lost = _lost(others, count)
        if lost is None or done.wait(_GRACE):
            continue
        print(lost, file=sys.stderr, flush=True)
        for process in others:
            process.kill()
        os._exit(1)


def _other(
    rank: int, place: dict[str, str], parent: int, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """Be one of the processes that were started."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_OF_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)
    os.environ.update(place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    work(*arguments)
    _leave_group()


def _leave_group() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
