"""The bundle as an RO-Crate: who did what with which files, in a form that other tools read.

Process Run Crate 0.5 on RO-Crate 1.1. The bytes depend on the run alone: no clock, no machine, no
order of a file system. Times are those of the journal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from attrs import frozen

from atlas.record import Event, RunView

__all__ = ["CRATE", "Member", "crate", "media_type", "operator"]

CRATE = "ro-crate-metadata.json"
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_CONTEXT = [f"{_SPECIFICATION}/context", {"sha256": "http://schema.org/sha256"}]

_MEDIA = {
    ".cff": "text/yaml",
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".npz": "application/zip",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
}


@frozen
class Member:
    """A file of the bundle as its crate describes it."""

    path: str
    size: int
    sha256: str
    description: str


def media_type(path: str) -> str:
    """Return a path's media type by its suffix, the same on every machine."""
    return _MEDIA.get(PurePosixPath(path).suffix.lower(), "application/octet-stream")


def operator(view: RunView) -> str:
    """Return who operated the run: the manifest's operator, or the first who signed an answer."""
    governance = view.manifest.get("governance")
    named = governance.get("operator") if isinstance(governance, Mapping) else None
    signed = (event.data["author"] for event in view.of("gate-answered"))
    return str(named or next(signed, ""))


def crate(view: RunView, members: Iterable[Member]) -> bytes:
    """Return `ro-crate-metadata.json` for a run and the files that it is bundled with."""
    files = {member.path: member for member in members}
    actions = list(_actions(view, files))
    applications = {action["instrument"]["@id"]: _application(view, action) for action in actions}
    for action in actions:
        del action["_use"]
    records = [event.data for event in view.of("record-linked")]
    finished = view.last("finished")
    tier = f" It is of Tier {finished.data['tier']}." if finished is not None else ""
    who = operator(view)
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": view.run_id,
        "identifier": view.run_id,
        "description": (
            f"The record of one run of Atlas, {view.manifest.get('name', 'collected by hand')}: what was "
            f"expected, what was measured and how.{tier} The run is {view.state}; its journal ends at "
            f"{view.head}."
        ),
        "datePublished": view.events[-1].time,
        "license": {"@id": "#licence"},
        "author": {"@id": "#operator"},
        "conformsTo": {"@id": _PROFILE},
        "hasPart": _references([quote(path) for path in files] + [f"{r['folder']}/" for r in records]),
        "mentions": _references(action["@id"] for action in actions),
    }
    graph = [
        {
            "@id": CRATE,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _SPECIFICATION},
            "about": {"@id": "./"},
        },
        root,
        {
            "@id": _PROFILE,
            "@type": "CreativeWork",
            "name": "Process Run Crate",
            "version": "0.5",
        },
        {
            "@id": "#licence",
            "@type": "CreativeWork",
            "name": "No licence stated",
            "description": "The operator has stated no licence for this run; ask before you reuse it.",
        },
        {"@id": "#operator", "@type": "Person", "name": who or "not recorded"},
        *(applications[key] for key in sorted(applications)),
        *actions,
        *(_record(entry) for entry in records),
        *(_file(files[path]) for path in sorted(files)),
    ]
    content = {"@context": _CONTEXT, "@graph": graph}
    return (json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def _references(ids: Iterable[str]) -> list[dict[str, str]] | dict[str, str]:
    """Return references, a single one not in a list, as RO-Crate 1.1 recommends."""
    found = [{"@id": item} for item in sorted(set(ids))]
    return found[0] if len(found) == 1 else found


def _actions(view: RunView, files: Mapping[str, Member]) -> Iterator[dict[str, Any]]:
    """Yield one CreateAction per finished step; `_use` holds its instrument's name."""
    uses = {step["id"]: step["use"] for step in view.manifest.get("steps", ())}
    for finished in view.of("step-finished"):
        step, attempt = finished.data["step"], finished.data["attempt"]
        started = _start_of(view, step, attempt)
        inputs = {*(started.data["inputs"] if started is not None else ())}
        if started is not None:
            inputs |= {"manifest.resolved.yaml"} | {p for p in files if p.startswith("stimulus/")}
        results = [item["path"] for item in finished.data.get("sealed", ())]
        yield {
            "@id": f"#step-{quote(step)}-{attempt}",
            "@type": "CreateAction",
            "name": f"Step {step}",
            "description": f"Attempt {attempt} of step {step}" + (f", {uses[step]}" if step in uses else ""),
            "startTime": (started or finished).time,
            "endTime": finished.time,
            "actionStatus": "http://schema.org/CompletedActionStatus",
            "agent": {"@id": "#operator"},
            "instrument": {"@id": _application_id(view, uses.get(step))},
            "object": _references(quote(path) for path in inputs if path in files),
            "result": _references(quote(path) for path in results if path in files),
            "_use": uses.get(step),
        }


def _start_of(view: RunView, step: str, attempt: int) -> Event | None:
    wanted = (step, attempt)
    return next((e for e in view.of("step-started") if (e.data["step"], e.data["attempt"]) == wanted), None)


def _plugin(view: RunView, use: str | None) -> tuple[str, str]:
    """Return distribution and version of the plugin that a step's instrument comes from."""
    if use is not None and "environment/plugins.json" in view.artifacts:
        pins = json.loads(view.read("environment/plugins.json"))
        pin = pins["plugins"].get(pins.get("instruments", {}).get(use, {}).get("plugin", use))
        if pin is not None:
            return pin["distribution"], pin["version"]
    return "atlas-host", str(view.events[0].data["atlas"])


def _application_id(view: RunView, use: str | None) -> str:
    distribution, version = _plugin(view, use)
    return f"pkg:pypi/{quote(distribution)}@{quote(version)}" + (f"#{quote(use)}" if use else "")


def _application(view: RunView, action: Mapping[str, Any]) -> dict[str, Any]:
    use = action["_use"]
    distribution, version = _plugin(view, use)
    return {
        "@id": action["instrument"]["@id"],
        "@type": "SoftwareApplication",
        "name": f"{distribution}: {use}" if use else distribution,
        "softwareVersion": version,
    }


def _record(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@id": f"{entry['folder']}/",
        "@type": "Dataset",
        "name": entry["record"],
        "description": f"The behavioural record that the run hangs on; its journal ends at {entry['head']}.",
    }


def _file(member: Member) -> dict[str, Any]:
    return {
        "@id": quote(member.path),
        "@type": "File",
        "name": member.path,
        "description": member.description,
        "contentSize": str(member.size),
        "encodingFormat": media_type(member.path),
        "sha256": member.sha256,
    }
