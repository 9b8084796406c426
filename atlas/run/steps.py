"""Running one step or one fetch, isolated as asked, and checking what it left."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TypeVar

from attrs import asdict, evolve

from atlas.catalog import Catalog, discover
from atlas.errors import AtlasError, InstrumentFailed
from atlas.run.environment import child_environment
from atlas.run.messages import FetchRequest, FetchResult, StepRequest, StepResult, StepWaiting, structure
from atlas.run.process import ChildResult, OnMessage, run_child
from atlas.run.results import check_files
from atlas.run.worker import perform

__all__ = ["run_fetch", "run_inline", "run_step"]

T = TypeVar("T")


def run_step(
    request: StepRequest,
    *,
    timeout_s: float | None,
    stdout: Path,
    stderr: Path,
    on_message: OnMessage,
) -> StepResult | StepWaiting:
    """Run a step in a process of its own; its files then lie in `request.out`, checked, not sealed.

    Raises:
        InstrumentFailed: It ended without a valid result.
        BadInput, PluginFault, IntegrityBroken, NotReproducible: The step raised it, such as a target
            whose files are damaged.
    """
    environment = child_environment(
        request.environment,
        threads=request.threads,
        network=request.network,
        who=request.who,
        variables=request.variables,
    )
    ended = run_child(
        asdict(request),
        folder=Path(request.scratch),
        environment=environment,
        timeout_s=timeout_s,
        stdout=stdout,
        stderr=stderr,
        on_message=on_message,
    )
    if ended.message["kind"] == "waiting":
        waiting = _read(ended, StepWaiting, request.who)
        check_files(waiting.files, Path(request.out), who=request.who)
        return waiting
    result = _read(ended, StepResult, request.who)
    check_files(result.files, Path(request.out), who=request.who)
    return evolve(result, seconds=ended.seconds)


def run_inline(
    request: StepRequest, *, on_message: OnMessage, catalog: Catalog | None = None
) -> StepResult | StepWaiting:
    """Run a step in this process, for `isolation: inline` and for tests of plugins.

    The record says `inline`: the step shares this process's network, environment and memory, and a
    crash of it ends the host.

    Args:
        request: As for a process; `environment` and `network` have no effect.
        on_message: Receives `progress` and `check`.
        catalog: What is installed, where it is known already.

    Raises:
        InstrumentFailed: It ended without a valid result, or raised something else than an
            `AtlasError`; the cause is chained.
    """
    isolation = {"process": "inline", "network": "open: inline", "environment": "inherited"}
    started, home = time.monotonic(), Path.cwd()
    try:
        os.chdir(request.scratch)
        outcome = perform(request, on_message, isolation, catalog or discover())
    except (AtlasError, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit included: an instrument does not end the host
        raise InstrumentFailed(
            f"step {request.step!r} failed: {type(error).__name__}: {error}", who=request.who
        ) from error
    finally:
        os.chdir(home)
    check_files(outcome.files, Path(request.out), who=request.who)
    if isinstance(outcome, StepWaiting):
        return outcome
    return evolve(outcome, seconds=time.monotonic() - started)


def run_fetch(
    request: FetchRequest,
    *,
    stdout: Path,
    stderr: Path,
    on_message: OnMessage,
) -> FetchResult:
    """Let a target source bring what is missing, in a process of its own, with network and without limit.

    Raises:
        InstrumentFailed: It ended without a result.
        BadInput, PluginFault: The source raised it: no such model, no network.
    """
    ended = run_child(
        asdict(request),
        folder=stdout.parent,
        environment=child_environment({}, threads=request.threads, network=True, who=request.who),
        timeout_s=None,
        stdout=stdout,
        stderr=stderr,
        on_message=on_message,
    )
    return _read(ended, FetchResult, request.who)


def _read(ended: ChildResult, cls: type[T], who: str) -> T:
    try:
        return structure(ended.message, cls)
    except ValueError as error:
        raise InstrumentFailed(f"the process sent {error}", who=who) from error
