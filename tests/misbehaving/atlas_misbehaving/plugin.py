"""Instruments that fail in every way the host must survive, and one that does as it should."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from atlas.contracts import AwaitAnswer, StepContext
from atlas.errors import BadInput
from atlas.hookspecs import hookimpl
from atlas.quantities import Quantity, UncertaintyKind
from atlas.tables import Column, TableSchema

LINES = TableSchema("lines", 1, "Lines.", (Column("n", "integer", "A number.", required=True),))


def measure(context: StepContext) -> None:
    """Do everything right."""
    context.progress("counting", done=1, total=1, residual=float("nan"))
    context.check("sanity", True, "one is one")
    draw = float(context.random.generator("value").standard_normal())
    context.record(Quantity("value", draw, 0.0, UncertaintyKind.EXACT))
    context.table("lines", [{"n": 1}, {"n": 2}])
    context.attach("notes/one.txt", b"kept")
    context.fact("greeting", "hello")
    context.fact("seen", ",".join(f"{p}={f.read_text()}" for p, f in context.inputs.items()))
    context.fact("stimulus", ",".join(item.text for piece in context.slices for item in piece.items))
    context.fact("environment", " ".join(sorted(os.environ)))
    context.fact("threads", os.environ.get("OMP_NUM_THREADS", ""))
    context.fact("folder", str(Path.cwd()))


def ask(context: StepContext) -> None:
    with suppress(Exception):
        context.await_human(AwaitAnswer("Put this before the model.", {"prompt.md": b"look"}))


def raise_error(context: StepContext) -> None:
    raise ZeroDivisionError("the matrix was empty")


def bad_input(context: StepContext) -> None:
    raise BadInput("the weights are truncated", where="model.safetensors", fix="download them again")


def leave(context: StepContext) -> None:
    sys.exit(0)


def leave_hard(context: StepContext) -> None:
    os._exit(0)


def segfault(context: StepContext) -> None:
    ctypes.string_at(0)


def kill_self(context: StepContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(context: StepContext) -> None:
    time.sleep(600)


def hang_deaf(context: StepContext) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    time.sleep(600)


def orphan(context: StepContext) -> None:
    """Leave a grandchild behind that holds every inherited pipe."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
    print(child.pid, flush=True)
    measure(context)


def flood(context: StepContext) -> None:
    block = b"x" * (1 << 20)
    for _ in range(80):
        os.write(1, block)
    measure(context)


def spam(context: StepContext) -> None:
    while True:
        context.progress("again", done=1, total=1)


def allocate(context: StepContext) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    bytearray(20 << 30)


def forge(context: StepContext) -> None:
    print('{"kind": "result", "files": []}', flush=True)
    os._exit(0)


def close_all(context: StepContext) -> None:
    os.closerange(0, 256)


def read_stdin(context: StepContext) -> None:
    if sys.stdin.read() == "":
        measure(context)


def nothing(context: StepContext) -> None:
    return None


def undeclared(context: StepContext) -> None:
    context.table("other", [])


def incomplete(context: StepContext) -> None:
    context.record(Quantity("value", 1.0, 0.0, UncertaintyKind.EXACT))


def wrong_cell(context: StepContext) -> None:
    context.table("lines", [{"n": "two"}])


def escape(context: StepContext) -> None:
    context.attach("../../evil.txt", b"")


def tamper(context: StepContext) -> None:
    """Change a table behind the host's back."""
    measure(context)
    Path(context._out, "lines.csv").write_text("n\r\n7\r\n")  # type: ignore[attr-defined]


def check_swallowed(context: StepContext) -> None:
    with suppress(Exception):
        context.check("loss", False, "the loss is -1")
    measure(context)


def ungranted(context: StepContext) -> None:
    context.load("targets", "box")


def connect(context: StepContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        for fact, address in (("connected", context.params["address"]), ("itself", own.getsockname())):
            try:
                socket.create_connection(tuple(address), timeout=5).close()
                context.fact(fact, "yes")
            except OSError as error:
                context.fact(fact, f"no: {error}")
    measure(context)


def open_target(context: StepContext) -> None:
    assert context.target() is context.target()
    measure(context)


class Box:
    """A target source whose target is a mapping."""

    def fetch(self, params: Mapping[str, Any], progress: Any) -> Mapping[str, Any]:
        if params.get("absent"):
            raise BadInput("there is no such model")
        progress("fetching", done=1, total=2)
        return {**params, "path": str(Path("model").resolve())}

    def open(self, params: Mapping[str, Any], *, threads: int) -> Any:
        class Target:
            facts: Mapping[str, str] = {"sha256": params["path"]}

        return Target()


INSTRUMENTS: tuple[Callable[[StepContext], None], ...] = (
    *(measure, ask, raise_error, bad_input, leave, leave_hard, segfault, kill_self, hang, hang_deaf, orphan),
    *(flood, spam, allocate, forge, close_all, read_stdin, nothing, undeclared, incomplete, wrong_cell),
    *(escape, tamper, check_swallowed, ungranted, connect, open_target),
)


@hookimpl
def atlas_instruments() -> Mapping[str, Callable[[StepContext], None]]:
    return {function.__name__: function for function in INSTRUMENTS}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    return {LINES.identifier: LINES}


@hookimpl
def atlas_targets() -> Mapping[str, Box]:
    return {"box": Box()}
