"""What a checked record proves and does not, in plain words, and what its auditor should know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from atlas.bundle.order import check_seeds
from atlas.record import JOURNAL, RunView

__all__ = ["MANIFEST", "NOT_PROVEN", "proven_by", "remarks", "unsealed"]

MANIFEST = "manifest.resolved.yaml"

NOT_PROVEN = (
    "when anything happened: the times are those of the operator's own clock",
    "that no trial was made in private before, or beside, this run",
    "who wrote a text: an author's name is what was typed",
    "that the numbers are right: for that, `atlas reproduce` measures again",
)
"""What no check of a record can show."""

_DERIVED = (
    *("CITATION.cff", "README.md", "datapackage.json", "drafts", "handouts", "logs", "orphans"),
    *("report.html", "ro-crate-metadata.json", "workbook"),
)


def proven_by(view: RunView) -> Iterator[str]:
    """Yield what a record proves in which nothing was found wrong."""
    files, lines = len(view.artifacts), view.head.length
    yield f"fixity: {files} sealed files are, byte for byte, what the journal sealed"
    yield f"order: the journal is one unbroken chain of {lines} lines, and their order is one the host allows"
    first = next(view.of("step-started"), None)
    for state in view.gates.values():
        passed = state.answered or state.skipped
        if passed is not None and first is not None and passed.seq < first.seq:
            how = "sealed" if state.answered else "skipped"
            lines_apart = f"line {passed.seq + 1} before line {first.seq + 1}"
            yield f"order: {state.id} was {how} before the first step started ({lines_apart})"
    yield from (f"seeds: {item}" for item in dict.fromkeys(check_seeds(view)) if isinstance(item, str))
    declared, judged = view.last("declared"), view.last("hypotheses-judged")
    if judged is not None and declared is not None and first is not None:
        apart = f"line {declared.seq + 1} before line {first.seq + 1}"
        yield f"hypotheses: declared before the first step started ({apart}), judged at line {judged.seq + 1}"
    for event in view.of("record-linked"):
        yield f"links: the copy of {event.data['record']} is the record that was linked"


def remarks(view: RunView) -> Iterator[str]:
    """Yield what is no fault and an auditor should know."""
    finished = view.last("finished")
    if finished is not None:
        yield (
            f"the journal says Tier {finished.data['tier']}; `atlas tier` computes it again, "
            "which needs the plugin of the governance policy"
        )
    else:
        yield f"the run is {view.state}: it has no tier yet"
    if MANIFEST not in view.artifacts:
        yield "it was collected by hand: how it came about only its author can say"
    elif not view.governed:
        yield "the run is not governed: nobody had to say first what they expected"
    elif not any(g.opened.data["stage"] == "measure" for g in view.gates.values()) and any(
        view.of("step-started")
    ):
        yield "no gate stood before the measurement"
    for event in view.of("gate-skipped"):
        yield f"{event.data['gate']} was skipped by {event.data['author']}: {event.data['reason']}"
    for event in view.of("override-signed"):
        yield f"{event.data.get('gate')} was sealed over problems, signed by {event.data.get('author')}"
    back = sum(1 for event in view.events if "clock_back_ms" in event.data)
    if back:
        yield f"the clock went back {back} time(s); the journal's order is not affected"


def unsealed(view: RunView, paths: Iterable[str]) -> Iterator[str]:
    """Yield the files that nobody vouches for: neither sealed, nor made from what is."""
    linked = tuple(f"{event.data['folder']}/" for event in view.of("record-linked"))
    for path in paths:
        known = path == JOURNAL or path in view.artifacts or path.startswith((*linked, "."))
        if not known and path.partition("/")[0] not in _DERIVED:
            yield path
