"""What comes back from a child process: its messages on a private channel, its output in log files."""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import IO, Any

from atlas.errors import AtlasError
from atlas.run.journal import unwritable
from atlas.run.messages import decode

__all__ = ["LAST", "LOG_LIMIT", "Channel", "Log"]

LOG_LIMIT = 64 << 20
"""Bytes kept of each of a child's output streams."""

LAST = ("result", "waiting", "error")
"""Kinds of message after which no other comes."""

_KINDS = ("ready", "progress", "check", *LAST)
_LARGEST_MESSAGE = 16 << 20
_TAIL = 4096
_PATIENCE = 2.0


class Channel:
    """The private way back: a local socket or named pipe, one connection, a random key."""

    def __init__(self) -> None:
        self.key = secrets.token_bytes(32)
        self.messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        try:
            self._listener = Listener(authkey=self.key)
        except OSError as error:
            raise AtlasError(f"no channel to a step's process could be opened: {error}") from error
        self.address = self._listener.address
        self._connected = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Channel:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if not self._connected.is_set():
            with suppress(OSError):  # wakes the thread that waits for a child which never came
                Client(self.address).close()
        self._thread.join(_PATIENCE)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
                break
            except (AuthenticationError, EOFError, OSError):
                if self._closed:
                    return
                time.sleep(0.05)
        self._connected.set()
        with connection:
            while True:
                try:
                    message = decode(connection.recv_bytes(_LARGEST_MESSAGE))
                    if message["kind"] not in _KINDS:
                        raise ValueError(f"unknown kind {message['kind']!r}")
                except (EOFError, OSError):
                    self.messages.put(None)
                    return
                except ValueError as error:
                    self.messages.put({"kind": "error", "error": "ValueError", "what": f"channel: {error}"})
                    return
                self.messages.put(message)


class Log:
    """Keeps the first `LOG_LIMIT` bytes of a stream in a file, and its last lines in memory."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.path = path
        self.tail = b""
        self._stream = stream
        try:
            self._file: IO[bytes] | None = path.open("wb")
        except OSError as error:
            raise unwritable(error, "a step's log", str(path)) from error
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the file; a process that outlived its group may go on writing to nobody."""
        self._thread.join(_PATIENCE)
        self._stop("")

    def _drain(self) -> None:
        room = LOG_LIMIT
        while chunk := os.read(self._stream.fileno(), 1 << 16):
            self.tail = (self.tail + chunk)[-_TAIL:]
            with self._lock:
                if self._file is None:
                    continue
                try:
                    self._file.write(chunk[:room])
                except OSError:
                    room = 0  # the disk is full; the step itself need not fail for its log
            room -= len(chunk)
            if room <= 0:
                self._stop(f"\n[atlas: output beyond {LOG_LIMIT} bytes was not kept]\n")
        self._stream.close()

    def _stop(self, note: str) -> None:
        with self._lock:
            if self._file is not None:
                with suppress(OSError):
                    self._file.write(note.encode("ascii"))
                    self._file.close()
                self._file = None
