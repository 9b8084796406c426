"""What a run was made with: interpreter, distributions and machine, without anything private.

No user, host or path is recorded, and nothing of a package index: names and versions alone are read
from the installed metadata, never the URL that a distribution came from.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

__all__ = ["cpu_name", "record_environment"]


def record_environment() -> dict[str, bytes]:
    """Return the files of the run folder's `environment/`, by name.

    `python.json` (interpreter and platform), `distributions.txt` (`name==version`, sorted) and
    `hardware.json` (CPU, cores, memory). What the libraries of a step say, such as PyTorch's threads
    and instruction set, is recorded by the step's own process.
    """
    return {
        "python.json": _json(
            {
                "version": platform.python_version(),
                "implementation": platform.python_implementation(),
                "compiler": platform.python_compiler(),
                "platform": sys.platform,
                "system": platform.system(),
                "release": platform.release(),
                "machine": platform.machine(),
                "byte_order": sys.byteorder,
            }
        ),
        "distributions.txt": _distributions(),
        "hardware.json": _json({"cpu": cpu_name(), "cores": os.cpu_count(), "memory_bytes": _memory_bytes()}),
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode("ascii")


def _distributions() -> bytes:
    found = {f"{d.metadata['Name']}=={d.version}" for d in distributions() if d.metadata["Name"]}
    return "".join(f"{line}\n" for line in sorted(found, key=str.casefold)).encode("utf-8")


def cpu_name() -> str:
    """Return the processor's model name, or what the platform calls it."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    with suppress(OSError):  # no such file outside Linux, or a container that does not show it
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    """Return the installed memory, or None where the platform does not tell."""
    if sys.platform == "win32":
        import ctypes

        class MemoryStatus(ctypes.Structure):
            _fields_ = (
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
            )

        status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
        found = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.total) if found else None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
