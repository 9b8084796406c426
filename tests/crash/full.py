"""Lets the disk refuse a run at each of its calls and fills it up at many levels; then gives room again.

    python full.py FOLDER errors | limits | disk

prints one JSON object: cases, how many met the refusal, and what was wrong afterwards.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mini_run
import shim

from atlas.errors import AtlasError
from atlas.run.journal import DiskFull

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000


def refusing(at: int, code: int) -> shim.Meddle:
    """Fail the call number `at`, and each one like it until the program has given up."""
    count = 0

    def meddle(name: str, args: tuple[Any, ...], real: Callable[[], Any]) -> Any:
        nonlocal count
        now, count = count, count + 1
        if now == at:
            if name == "write" and code == errno.ENOSPC:
                return shim.REAL["write"](args[0], bytes(args[1])[: len(args[1]) // 2])  # a short write
            raise OSError(code, os.strerror(code), str(args[0]))
        return real()

    return meddle


def attempt(root: Path, told: set[str]) -> type[BaseException] | None:
    """Run or resume; return the error that ended it. Anything but an AtlasError escapes."""
    try:
        mini_run.resume(root, told.add)
    except AtlasError as error:
        return type(error)
    return None


def errors(folder: Path) -> Iterator[tuple[bool, list[str]]]:
    """Refuse one call after the other, each with EIO and with ENOSPC (a short write, where it writes)."""
    for code in (errno.EIO, errno.ENOSPC):
        for at in range(75):
            root, told = folder / f"{code}-{at}", set[str]()
            shim.install(refusing(at, code))
            failed = attempt(root, told)
            shim.remove()
            wrong = [f"{code} at {at}: again {error}"] if (error := attempt(root, told)) else []
            yield failed is not None, wrong + mini_run.faults(root, told)


def limits(folder: Path) -> Iterator[tuple[bool, list[str]]]:
    """Let no file grow beyond a limit (EFBIG), 0 to 3,968 bytes by 32."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in range(0, 4000, 32):
        root, told = folder / str(limit), set[str]()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        failed = attempt(root, told)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        wrong = [f"limit {limit}: {failed}"] if failed not in (None, DiskFull) else []
        wrong += [f"limit {limit}: again {error}"] if (error := attempt(root, told)) else []
        yield failed is not None, wrong + mini_run.faults(root, told)


def disk(folder: Path) -> Iterator[tuple[bool, list[str]]]:
    """Fill a disk of 128 KiB to all but 0 to 76 KiB; no cases without the right to mount one."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        return
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=128k"):
        return
    for free in range(0, 80, 4):
        root, told, ballast = folder / "run", set[str](), folder / "ballast"
        with ballast.open("wb", buffering=0) as stream:
            with suppress(OSError):
                while True:
                    stream.write(bytes(4096))
            stream.truncate(stream.tell() - free * 1024)
        failed = attempt(root, told)
        ballast.unlink()
        wrong = [f"{free} KiB: {failed}"] if failed not in (None, DiskFull) else []
        wrong += [f"{free} KiB: again {error}"] if (error := attempt(root, told)) else []
        yield failed is not None, wrong + mini_run.faults(root, told)
        shutil.rmtree(root)


if __name__ == "__main__":
    cases = list({"errors": errors, "limits": limits, "disk": disk}[sys.argv[2]](Path(sys.argv[1])))
    wrong = [text for _, texts in cases for text in texts]
    print(json.dumps({"cases": len(cases), "refused": sum(met for met, _ in cases), "bad": wrong}))
