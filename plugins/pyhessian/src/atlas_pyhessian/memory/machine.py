"""This machine's memory: what is free, what this process holds, and how its allocator gives it back.

Linux tells all of it. Elsewhere less is known, and less is promised: None is returned for what cannot be
asked, and the allocator is left as it is.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

__all__ = ["anonymous_bytes", "free_bytes", "machine_name", "return_memory", "reuse_memory"]

_MMAP_THRESHOLD = -3
_TRIM_THRESHOLD = -1
_RETURNED = 128 << 10
"""Size from which a block goes back to the system as soon as it is freed, where memory is short."""
_REUSED = 256 << 20
_NEVER = -1
_UNLIMITED = 1 << 60
"""A control group's way of saying that it has no limit: a number no machine has."""


def anonymous_bytes() -> int | None:
    """Return the memory that this process holds for itself: resident, and behind no file."""
    return _status("/proc/self/status", "RssAnon:")


def free_bytes() -> int | None:
    """Return what can be taken without swapping: of the machine, or of this process' control group."""
    free = [_status("/proc/meminfo", "MemAvailable:"), *_group_room()]
    known = [value for value in free if value is not None]
    return min(known) if known else None


def _status(path: str, field: str) -> int | None:
    try:
        lines = Path(path).read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)


def _group_room() -> list[int | None]:
    """Return what each control group above this process leaves, versions 1 and 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text("ascii", "replace").splitlines()
    except OSError:
        return []
    room: list[int | None] = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = root / place.lstrip("/")
        while folder.is_relative_to(root):
            room.append(_room(folder, *names))
            folder = folder.parent
    return room


def _room(folder: Path, limit_name: str, used_name: str) -> int | None:
    try:
        limit, used = ((folder / name).read_text("ascii").strip() for name in (limit_name, used_name))
        statistics = (folder / "memory.stat").read_text("ascii").splitlines()
    except OSError:
        return None
    if not limit.isdigit() or int(limit) > _UNLIMITED:
        return None
    cached = [int(line.split()[1]) for line in statistics if line.split()[0] in _RECLAIMED]
    return max(0, int(limit) - int(used) + max(cached, default=0))


_RECLAIMED = ("inactive_file", "total_inactive_file")


def machine_name() -> str:
    """Return what a time measured here depends on, as far as it can be named."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}"


def reuse_memory() -> None:
    """Keep what is freed for the next allocation: fast, and with gaps that nothing fits in."""
    _tell(_MMAP_THRESHOLD, _REUSED)
    _tell(_TRIM_THRESHOLD, _NEVER)


def return_memory() -> None:
    """Give what is freed back at once, what was free before too: exact, and slower by the page faults."""
    if _tell(_MMAP_THRESHOLD, _RETURNED):
        _tell(_TRIM_THRESHOLD, _RETURNED)
        ctypes.CDLL(None).malloc_trim(0)


def _tell(option: int, value: int) -> bool:
    """Set an option of glibc's allocator and say whether there is one."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(option, value))
