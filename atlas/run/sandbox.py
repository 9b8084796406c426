"""What a step's process gives up before a plugin is imported: the network, and its standard input.

Its network is one of its own, with nothing in it but a loopback, by which its own processes find each
other.

This is fault isolation, not a wall against a hostile plugin. Closing the network needs Linux; the
record says whether it was closed, and no tier depends on it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["HOST_GONE", "drop_network", "end_with_host", "volunteer_for_oom"]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40
"""Of Linux: set an interface's flags; it is up, and works."""
HOST_GONE = 70
"""Exit status of a process whose host has ended."""


def drop_network() -> str:
    """Move this process into a network namespace with a loopback alone; return `blocked`, or `open: why`.

    Call it before any thread is started: a user namespace can be entered by a single thread only.
    """
    if sys.platform != "linux":
        return f"open: {sys.platform} has no network namespaces"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) == 0:
        _raise_loopback(libc)
        return "blocked"
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return f"open: {os.strerror(ctypes.get_errno())}"
    own = (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"))
    with suppress(OSError):  # denied by some systems: files know the process all the same
        for name, text in own:
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    _raise_loopback(libc)
    return "blocked"


def _raise_loopback(libc: ctypes.CDLL) -> None:
    """Bring up the loopback of this namespace; where that is denied it stays down."""
    request = struct.pack("16sh22x", b"lo", _IFF_UP | _IFF_RUNNING)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        libc.ioctl(device.fileno(), _SIOCSIFFLAGS, request)


def volunteer_for_oom() -> None:
    """Let the kernel end this process rather than the host when memory runs out (Linux only)."""
    with suppress(OSError):  # another platform, or a container that does not show the file
        Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")


def end_with_host() -> None:
    """End this process when the host ends: its end of our standard input closes then.

    Standard input itself becomes empty, so that a plugin that reads it does not wait forever.
    """
    private = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(private, 4096):
            pass
        if sys.platform != "win32":
            os.killpg(0, signal.SIGKILL)  # and with this process all that it started
        os._exit(HOST_GONE)

    threading.Thread(target=watch, name="atlas-host-watch", daemon=True).start()
