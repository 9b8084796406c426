"""The main program of a step's process: reads one request, carries it out, says how it ended.

Nothing of a plugin is imported before the network is closed and the cards are checked. The process
ends with `os._exit` once its last message is out, so that neither a thread that a plugin left running
nor a crash in some library's farewell can delay or spoil a result that is already sealed in transit.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from typing import Any

from attrs import asdict

from atlas.catalog import Catalog, discover
from atlas.errors import AtlasError, PluginFault
from atlas.host import Host
from atlas.run.context import Context, HumanNeeded, ProgressSender, Report
from atlas.run.environment import machine_facts
from atlas.run.messages import (
    FetchRequest,
    FetchResult,
    StepRequest,
    StepResult,
    StepWaiting,
    encode,
    structure,
)
from atlas.run.sandbox import HOST_GONE, drop_network, end_with_host, volunteer_for_oom

__all__ = ["main", "perform"]


def main() -> None:
    """Serve one request from standard input."""
    header = json.loads(sys.stdin.buffer.readline())
    channel = Client(header["address"], authkey=bytes.fromhex(header["key"]))
    data = header["request"]
    network = "granted" if data["kind"] == "fetch" or data["network"] else drop_network()
    volunteer_for_oom()
    end_with_host()
    report = _sender(channel)
    isolation = {"process": "process", "network": network, "environment": " ".join(sorted(os.environ))}
    report({"kind": "ready", "isolation": isolation})
    try:
        if data["kind"] == "fetch":
            last: Mapping[str, Any] = _message("result", _fetch(structure(data, FetchRequest), report))
        else:
            outcome = perform(structure(data, StepRequest), report, isolation, discover())
            last = _message("waiting" if isinstance(outcome, StepWaiting) else "result", outcome)
        code = 0
    except BaseException as error:  # whatever a plugin raises, sys.exit included, is told to the host
        traceback.print_exc()
        last = _error(error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a plugin may have closed or replaced them
            stream.flush()
    report(last)
    os._exit(code)


def perform(
    request: StepRequest, report: Report, isolation: Mapping[str, str], catalog: Catalog
) -> StepResult | StepWaiting:
    """Run the instrument in this process and return what it left in `out`.

    Raises:
        PluginFault: A plugin is missing, broken, or its card is not the one that was planned with.
        InstrumentFailed: It broke its own card's promises, or a check did not pass.
        Exception: Whatever else the instrument raises.
    """
    _check_cards(request.cards, catalog)
    host = Host(catalog)
    instrument = host.load("instruments", request.instrument)
    context = Context(request, host, catalog.find("instruments", request.instrument), report)
    facts = {
        **isolation,
        "seed": str(request.seed),
        "threads": str(request.threads),
        "python": f"hash_randomization={sys.flags.hash_randomization} utf8_mode={sys.flags.utf8_mode}",
    }
    try:
        instrument(context)
    except HumanNeeded as pause:
        return StepWaiting(pause.ask.ask, context.handout(pause.ask), facts)
    return StepResult(context.finish(), machine_facts(), facts)


def _fetch(request: FetchRequest, report: Report) -> FetchResult:
    os.chdir(request.folder)
    catalog = discover()
    _check_cards(request.cards, catalog)
    source = Host(catalog).load("targets", request.target.use)
    return FetchResult(dict(source.fetch(request.target.params, ProgressSender(report))))


def _check_cards(cards: Mapping[str, str], catalog: Catalog) -> None:
    found = {card.plugin: card for card in catalog.cards}
    for plugin, sha256 in cards.items():
        if plugin not in found:
            raise PluginFault(f"the plugin {plugin!r} is no longer installed", fix="install it again")
        if found[plugin].sha256 != sha256:
            raise PluginFault(
                "the plugin's card is not the one that the run was planned with",
                who=found[plugin].who,
                fix="install the version that the run began with, or start a new run",
            )


def _sender(channel: Connection) -> Report:
    lock = threading.Lock()

    def report(message: Mapping[str, Any]) -> None:
        data = encode(message)
        try:
            with lock:
                channel.send_bytes(data)
        except OSError:
            traceback.print_exc()
            os._exit(HOST_GONE)

    return report


def _message(kind: str, outcome: StepResult | StepWaiting | FetchResult) -> dict[str, Any]:
    return {**asdict(outcome), "kind": kind}


def _error(error: BaseException) -> dict[str, Any]:
    """Describe an exception for the host, with the place in the plugin that raised it."""
    message: dict[str, Any] = {"kind": "error", "error": type(error).__name__, "what": str(error)}
    message |= {"where": None, "who": None, "fix": None}
    if isinstance(error, AtlasError):
        message |= {"what": error.what, "where": error.where, "who": error.who, "fix": error.fix}
    elif frames := traceback.extract_tb(error.__traceback__):
        message["where"] = f"{frames[-1].filename}:{frames[-1].lineno}"
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    message["memory"] = memory or "can't allocate memory" in str(error)
    return message


if __name__ == "__main__":
    main()
