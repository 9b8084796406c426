"""What is wrong among the runs of a folder: missing fields, broken links, tiers that do not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from atlas.errors import AtlasError
from atlas.governance import TierReport
from atlas.record import RunView, open_record
from atlas.run.identity import RUN_ID
from atlas.run.ledger import folders, row_of, written_rows

__all__ = ["Remark", "inspect"]

_NEEDED = ("instruments", "lineage", "name", "created", "head")


@frozen
class Remark:
    """Something to know of a run.

    Attributes:
        run: Its id.
        what: In one sentence.
        fault: Whether it is wrong; else it explains, such as what keeps a run from Tier A.
    """

    run: str
    what: str
    fault: bool = True

    def __str__(self) -> str:
        """One line for the terminal."""
        return f"{'FAULT' if self.fault else 'note '}  {self.run}: {self.what}"


def inspect(runs: Path, tier: Callable[[RunView], TierReport]) -> Iterator[Remark]:
    """Yield what is wrong with the runs of a folder and with its `registry.csv`, as they stand.

    Args:
        runs: The runs folder.
        tier: Computes a run's tier from its record, as `LocalWorkspace.tier` does.
    """
    views: dict[str, RunView] = {}
    rows = {root.name: row_of(root) for root in folders(runs)}
    yield from _against_the_table(runs, rows)
    for name, row in rows.items():
        if row["state"] == "broken":
            yield Remark(name, f"its journal cannot be read: {row['fault']}")
            continue
        views[name] = open_record(runs / name)
        if row["run_id"] != name:
            yield Remark(name, f"its journal is that of {row['run_id']}: the folder was renamed or copied")
    for name, view in views.items():
        yield from _fields(name, rows[name], view)
        yield from _links(name, view, views)
        yield from _tier(name, rows[name], view, tier)


def _against_the_table(runs: Path, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Remark]:
    written = written_rows(runs)
    if written is None:
        if rows:
            yield Remark("registry.csv", "there is none yet; `atlas runs rebuild` writes it", fault=False)
        return
    listed = {row["run_id"]: row for row in written}
    for name in sorted({*listed} - {*rows}):
        yield Remark(name or "registry.csv", "it is listed in registry.csv, and its folder is gone")
    for name, row in rows.items():
        if row["run_id"] not in listed:
            yield Remark(name, "it is not listed in registry.csv; `atlas runs rebuild` adds it")
        elif differing := [key for key, value in row.items() if listed[row["run_id"]][key] != value]:
            yield Remark(name, f"registry.csv says otherwise than its journal of: {', '.join(differing)}")


def _fields(name: str, row: Mapping[str, Any], view: RunView) -> Iterator[Remark]:
    missing = [field for field in _NEEDED if not row[field]]
    if view.governed:
        missing += [field for field in ("operator", "policy") if row[field] in ("", "none")]
    if row["state"] == "done" and not row["tier"]:
        missing.append("tier")
    if missing:
        yield Remark(name, f"missing: {', '.join(missing)}")
    stimulus = view.manifest.get("stimulus")
    if view.governed and stimulus and "stimulus/items.jsonl" not in view.artifacts:
        yield Remark(name, "missing: the stimulus that its manifest names")


def _links(name: str, view: RunView, views: Mapping[str, RunView]) -> Iterator[Remark]:
    linked = {event.data["record"]: event.data["head"] for event in view.of("record-linked")}
    for record, head in linked.items():
        other = views.get(record)
        if other is None:
            yield Remark(name, f"it hangs on {record}, which is not in this folder; the run holds a copy")
        elif not _grown_from(other, head):
            yield Remark(name, f"it hangs on {record} at a head that the record of this folder never had")
    governance = view.manifest.get("governance")
    named = governance.values() if isinstance(governance, Mapping) else ()
    for value in named:
        if isinstance(value, str) and RUN_ID.fullmatch(value) and value not in linked:
            yield Remark(name, f"its manifest names the record {value}, and its journal links none such")
    repeats = view.events[0].data.get("repeats")
    if repeats and repeats not in views:
        yield Remark(name, f"it repeats {repeats}, which is not in this folder", fault=False)


def _grown_from(view: RunView, head: str) -> bool:
    """Return whether a journal once ended in that head: records may be amended after they were linked."""
    length = int(head.partition(":")[0])
    return 0 < length <= len(view.events) and str(view.head_after(view.events[length - 1])) == head


def _tier(
    name: str, row: Mapping[str, Any], view: RunView, tier: Callable[[RunView], TierReport]
) -> Iterator[Remark]:
    if row["state"] != "done" or not view.manifest:
        return
    try:
        report = tier(view)
    except AtlasError as error:
        yield Remark(name, f"its tier cannot be computed here: {error.what}", fault=False)
        return
    if report.tier != row["tier"]:
        yield Remark(name, f"its journal says Tier {row['tier']}, and its record supports Tier {report.tier}")
    if view.governed:
        for condition in report.conditions:
            if not condition.met and condition.otherwise is not None:
                what = f"not Tier A: {condition.name} ({condition.evidence})"
                yield Remark(name, what, fault=False)
