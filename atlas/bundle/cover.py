"""The files of a bundle that a person or a catalogue opens first: README, citation, list of tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from atlas.bundle.crate import Member, operator
from atlas.record import RunView

__all__ = ["citation", "data_package", "readme"]


def readme(view: RunView) -> bytes:
    """Return `README.md`: what this is, what it may be trusted for, and how to check it."""
    finished = view.last("finished")
    tier = f"**Tier {finished.data['tier']}**" if finished is not None else "not finished, so it has no tier"
    rule = "held by a governance policy" if view.governed else "**not governed**: nobody had to declare first"
    short = [f"- {c['name']}: {c['evidence']}" for c in _unmet(view)]
    fallen = ["", "What keeps it from a higher tier, as journaled:", "", *short] if short else []
    lines = [
        f"# {view.run_id}",
        "",
        f"The record of one run of Atlas, {view.manifest.get('name', 'collected by hand')}:",
        "what was expected before anything was measured, what was measured and how, and what a person",
        "made of it.",
        "",
        "| | |",
        "| --- | --- |",
        f"| state | {view.state} |",
        f"| tier | {tier} |",
        f"| governance | {rule} |",
        f"| operator | {operator(view) or 'not recorded'} |",
        f"| first and last entry | {view.events[0].time}, {view.events[-1].time} |",
        f"| journal head | `{view.head}` |",
        *fallen,
        "",
        "## To check it",
        "",
        "In the folder that holds `bagit.txt`, with any tool of the trade:",
        "",
        "    sha256sum -c manifest-sha256.txt",
        "",
        "That tells damage from transport. Whether the record itself was touched is told by its journal:",
        "",
        f"    atlas verify {view.run_id}.zip --head {view.head}",
        "",
        "Take the head from somewhere else than this file: from a notebook, a letter, a message. A bundle",
        "that was rewritten as a whole comes with a head that fits it. Neither command needs a model.",
        "",
        "## What is where",
        "",
        "| path | what it is |",
        "| --- | --- |",
        "| `journal.jsonl` | every event in its order, each line holding the hash of the line before |",
        "| `manifest.yaml`, `manifest.resolved.yaml` | what was asked, as written and with all defaults |",
        "| `reads/`, `answers/` | what people wrote, sealed when they wrote it |",
        "| `raw/` | what was measured: CSV, each with its Table Schema (`datapackage.json` lists them) |",
        "| `verdicts/` | what became of hypotheses: each test, and the values that it was made on |",
        "| `stimulus/`, `records/` | the texts put before the model, the records that the run hangs on |",
        "| `environment/` | versions and machine |",
        "| `report.html` | the same for reading; derived from the rest, and not sealed |",
        "| `ro-crate-metadata.json` | the same for machines (RO-Crate 1.1, Process Run Crate) |",
        "",
        "The check proves order, fixity and links. It proves neither the time on the clock, nor that no",
        "trial was made in private, nor who wrote a text.",
        "",
    ]
    return "\n".join(lines).encode("utf-8")


def _unmet(view: RunView) -> list[Mapping[str, Any]]:
    finished = view.last("finished")
    conditions = finished.data.get("conditions", ()) if finished is not None else ()
    return [c for c in conditions if not c["met"] and c["otherwise"]]


def citation(view: RunView) -> bytes:
    """Return `CITATION.cff` (1.2.0) of the run."""
    who = operator(view)
    author = {"alias": who} if who else {"name": "The operator of the run, not recorded"}
    content: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this record, please cite it.",
        "type": "dataset",
        "title": f"{view.run_id}: {view.manifest.get('name', 'record collected by hand')}",
        "authors": [author],
        "date-released": view.events[-1].time[:10],
        "version": str(view.head),
        "identifiers": [
            {"type": "other", "value": view.run_id, "description": "Run id"},
            {"type": "other", "value": str(view.head), "description": "Journal head"},
        ],
    }
    # JSON's values are YAML's, so each key gets its value on a line of its own.
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in content.items()).encode("ascii")


def data_package(view: RunView, members: Mapping[str, Member]) -> bytes:
    """Return `datapackage.json` (Frictionless): each CSV with schema, size and hash."""
    resources = []
    for path in sorted(view.artifacts):
        schema = path.removesuffix(".csv") + ".schema.json"
        if path.endswith(".csv") and schema in view.artifacts:
            resources.append(
                {
                    "name": _name(path.removeprefix("raw/").removesuffix(".csv")),
                    "path": path,
                    "profile": "tabular-data-resource",
                    "format": "csv",
                    "mediatype": "text/csv",
                    "encoding": "utf-8",
                    "bytes": members[path].size,
                    "hash": f"sha256:{members[path].sha256}",
                    "schema": json.loads(view.read(schema)),
                }
            )
    content = {
        "profile": "data-package",
        "name": _name(view.run_id),
        "title": view.run_id,
        "created": view.events[-1].time,
        "resources": resources,
    }
    return (json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower())
