"""From a manifest's file to a run that is ready: defaults, names, parameters, references, admission.

Nothing here imports a plugin, writes a file or opens a model: cards say all that is needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas.catalog import Catalog, Offer
from atlas.manifest.document import parse_document, read_source
from atlas.manifest.draft import Draft
from atlas.manifest.grants import granted_variables
from atlas.manifest.hypotheses import check_hypotheses, check_selection
from atlas.manifest.matrix import placed_in_matrix
from atlas.manifest.mistakes import Mistake, as_error
from atlas.manifest.model import Reference, Resolved, Step
from atlas.manifest.overrides import apply, parse
from atlas.manifest.references import check_references
from atlas.manifest.structure import check, fill, manifest_schema
from atlas.manifest.targets import check_named_targets, named_targets, settled
from atlas.manifest.wording import choices, show
from atlas.registry import Registry

__all__ = ["resolve"]

SHORTEST_SECRET = 8
"""Letters below which a variable's value is looked for nowhere: it would be found in any text."""
RESERVED_IDS = ("sanitisation", "con", "prn", "aux", "nul")


def resolve(path: Path, *, catalog: Catalog, registry: Registry, overrides: Sequence[str] = ()) -> Resolved:
    """Resolve a manifest.

    Args:
        path: The manifest's file.
        catalog: What is installed.
        registry: What is admitted.
        overrides: `--set` arguments, `steps.curvature.params.top_k=3`, and those of a run of the matrix;
            later ones win.

    Raises:
        BadInput: The manifest cannot run as it stands. The message lists every mistake, one a line, as
            `file:line:column: what; what to write instead`.
    """
    source = read_source(path)
    document = parse_document(source, str(path))
    values = [placed_in_matrix(document, parse(item)) for item in overrides]
    document, mistakes = apply(document, values)
    draft = Draft(document, path.resolve().parent, catalog, registry)
    draft.mistakes += [*document.mistakes, *mistakes]
    data = dict(document.data)
    draft.mistakes += check(document, (), data, manifest_schema())
    data.pop("matrix", None)

    governed = isinstance(data.get("governance"), dict)
    if governed:
        data["governance"] = _governance(draft, data["governance"])
    _seed_policy(draft, data, governed)
    targets = data.get("targets")
    if isinstance(targets, dict):
        data["targets"] = {name: settled(draft, entry, ("targets", name)) for name, entry in targets.items()}
    stimulus = data.get("stimulus")
    if isinstance(stimulus, dict):
        data["stimulus"] = _stimulus(draft.source("stimuli", stimulus, ("stimulus",)))
    kind = ("stimuli", str(stimulus.get("use"))) if isinstance(stimulus, dict) else ("", "")
    check_selection(draft, stimulus, draft.offers.get(kind))
    steps = _steps(draft, data)
    check_references(draft, steps, governed=governed)
    check_hypotheses(draft, data, draft.offers.get(kind))
    notes = _admission(draft, governed)
    if not draft.mistakes:
        _check_secrets(draft, steps, (source.decode("utf-8", "replace"), *overrides))
    if draft.mistakes:
        raise as_error(draft.mistakes)

    data["steps"] = [_written(data["steps"][index], step) for index, step in steps]
    filled = fill(manifest_schema(), data)
    ordered = {key: filled[key] for key in manifest_schema()["properties"] if key in filled}
    return Resolved(
        data=ordered,
        offers=dict(draft.offers),
        steps=tuple(step for _, step in steps),
        folder=draft.folder,
        source=source,
        governed=governed,
        notes=(*_notes(draft, ordered, [step for _, step in steps], governed), *notes),
        inside_files=dict(draft.inside_files),
        stimulus=draft.as_written("stimulus", ordered.get("stimulus")),
    )


def _governance(draft: Draft, entry: Mapping[str, Any]) -> Any:
    """Settle the version of the protocol, then check the entry by the policy's card."""
    offer = draft.offer("governance", entry.get("use"), ("governance", "use"))
    if offer is None:
        return entry
    versions = offer.details.get("versions", ())
    if versions and "version" not in entry:
        entry = {**entry, "version": versions[-1]}
    version = entry.get("version")
    if isinstance(version, str) and versions and version not in versions:
        draft.wrong(
            ("governance", "version"),
            f"the policy {offer.name!r} has no version {show(version)}",
            choices(version, versions),
        )
        return entry
    if version is not None and not isinstance(version, str):
        return entry
    return draft.source("governance", entry, ("governance",))


def _seed_policy(draft: Draft, data: dict[str, Any], governed: bool) -> None:
    data.setdefault("seed_policy", "bound" if governed else "declared")
    if data["seed_policy"] == "bound" and not governed:
        draft.wrong(
            ("seed_policy",),
            "a run that nothing governs has no Read #0 to bind seeds to",
            "write `seed_policy: declared`, or name a policy under `governance`",
        )


def _stimulus(entry: dict[str, Any]) -> dict[str, Any]:
    """Write single values of `where` as lists."""
    where = entry.get("where")
    if isinstance(where, dict):
        entry = {**entry, "where": {k: [v] if isinstance(v, str) else v for k, v in where.items()}}
    return entry


def _steps(draft: Draft, data: Mapping[str, Any]) -> list[tuple[int, Step]]:
    """Return the steps that are sound, with their indices; note what is wrong with the others."""
    entries = data.get("steps")
    found: list[tuple[int, Step]] = []
    first: dict[str, int] = {}
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, dict):
            continue
        name = entry.get("id")
        at = ("steps", index)
        if isinstance(name, str):
            if name in first:
                place = draft.document.place(("steps", first[name], "id")).text
                draft.wrong((*at, "id"), f"the id {show(name)} is taken, at {place}", "choose another")
            elif name in RESERVED_IDS or name.startswith("read-"):
                draft.wrong((*at, "id"), f"the id {show(name)} is reserved", f"write {name}-step")
            first.setdefault(name, index)
        offer = draft.offer("instruments", entry.get("use"), (*at, "use"))
        if offer is None:
            continue
        mistakes = len(draft.mistakes)
        params, others = draft.params(offer, entry.get("params", {}), (*at, "params"))
        sound = len(draft.mistakes) == mistakes
        _check_needs(draft, data, entry, offer, others if sound else None, index)
        check_named_targets(draft, data.get("targets"), offer, params, (*at, "params"))
        if isinstance(name, str) and first[name] == index:
            found.append((index, _step(name, entry, offer, others, params, data)))
    return found


def _step(
    name: str,
    entry: Mapping[str, Any],
    offer: Offer,
    others: tuple[Offer, ...],
    params: Any,
    data: Mapping[str, Any],
) -> Step:
    sees = entry.get("sees")
    defaults = manifest_schema()["properties"]["steps"]["items"]["properties"]
    return Step(
        id=name,
        offer=offer,
        others=others,
        target=entry.get("target"),
        other_targets=named_targets(offer, params),
        params=params,
        sees=tuple(
            Reference.parse(item["from"])
            for item in (sees if isinstance(sees, list) else ())
            if isinstance(item, dict) and isinstance(item.get("from"), str)
        ),
        threads=entry.get("threads", data.get("threads", 1)),
        timeout_s=entry.get("timeout_s", defaults["timeout_s"]["default"]),
        isolation=entry.get("isolation", defaults["isolation"]["default"]),
        network=entry.get("network", False),
    )


def _written(entry: Mapping[str, Any], step: Step) -> dict[str, Any]:
    """Write a step in the order of the format, with what was settled for it."""
    settled = {**entry, "params": step.params, "threads": step.threads}
    filled = fill(manifest_schema()["properties"]["steps"]["items"], settled)
    keys = manifest_schema()["properties"]["steps"]["items"]["properties"]
    return {key: filled[key] for key in keys if key in filled}


def _check_needs(
    draft: Draft,
    data: Mapping[str, Any],
    entry: Mapping[str, Any],
    offer: Offer,
    others: tuple[Offer, ...] | None,
    index: int,
) -> None:
    """Note what an instrument needs and the manifest does not give, or gives and it cannot take.

    `others` is None where the parameters are wrong, so that nobody knows which offers they would name.
    """
    at = ("steps", index)
    needs = offer.details.get("needs", {})
    targets = data.get("targets")
    targets = targets if isinstance(targets, dict) else {}
    names = list(targets)
    target = entry.get("target")
    if isinstance(target, str):
        if target not in names:
            fix = choices(target, names) if names else "add it under `targets`"
            draft.wrong((*at, "target"), f"there is no target `{target}`", fix)
        elif not needs.get("target"):
            draft.wrong(
                (*at, "target"), f"{offer.name!r} takes no target", "remove the key `target`", key=True
            )
        elif isinstance(targets[target], dict) and "series" in targets[target] and not needs.get("series"):
            draft.wrong(
                (*at, "target"),
                f"{offer.name!r} measures one model and the target `{target}` is a series",
                "name a plain target, or vary it under `matrix`, which makes a run of each",
            )
    elif target is None and needs.get("target"):
        known = f", one of: {', '.join(names)}" if names else ", and describe it under `targets`"
        draft.wrong(at, f"{offer.name!r} measures a target and none is named", f"add `target: ...`{known}")
    if needs.get("stimulus") and "stimulus" not in data:
        draft.wrong(
            (*at, "use"),
            f"{offer.name!r} needs a stimulus and the manifest has none",
            "add `stimulus: {use: ...}`",
        )
    online = [o.name for o in (offer, *(others or ())) if o.details.get("needs", {}).get("network")]
    if online and entry.get("network", False) is False:
        draft.wrong(
            at, f"{online[0]!r} needs the network and the step does not grant it", "add `network: true`"
        )
    elif others is not None and not online and entry.get("network") is True:
        draft.wrong(
            (*at, "network"), f"{offer.name!r} does not use the network", "remove `network`", key=True
        )


def _check_secrets(draft: Draft, steps: Sequence[tuple[int, Step]], texts: Sequence[str]) -> None:
    """Note a variable that parameters name and whose value stands in the manifest, which is sealed."""
    for index, step in steps:
        entry = {"use": step.offer.name, "params": step.params}
        for name in granted_variables(entry, draft.catalog):
            value = os.environ.get(name, "").strip()
            if len(value) >= SHORTEST_SECRET and any(value in text for text in texts):
                draft.mistakes.append(
                    Mistake(
                        draft.document.place(("steps", index)).without_value(),
                        f"the value of the variable {name} stands in this manifest or its overrides",
                        "take it out and give that key up: a manifest is sealed and handed on",
                    )
                )


def _admission(draft: Draft, governed: bool) -> tuple[str, ...]:
    """Refuse what is not admitted in a governed run; return notes on it in others."""
    notes = []
    seen = set()
    for (kind, name), offer in draft.offers.items():
        if offer.plugin in seen:
            continue
        seen.add(offer.plugin)
        reason = draft.registry.admits(draft.catalog.card(offer.plugin))
        if reason is None:
            continue
        if governed:
            draft.wrong(
                draft.named_at[kind, name],
                f"{name!r} is not admitted to governed runs: {reason} ({offer.who})",
                f"type: atlas registry add {offer.plugin}",
            )
        else:
            notes.append(f"{offer.who} is not admitted to governed runs: {reason}")
    return tuple(notes)


def _notes(draft: Draft, data: Mapping[str, Any], steps: Sequence[Step], governed: bool) -> list[str]:
    notes = []
    if not governed:
        notes.append("governance: none, so the run is capped at Tier C")
    elif data["seed_policy"] == "declared":
        notes.append("seed_policy: declared, so the numbers could have been made before Read #0")
    inline = [step.id for step in steps if step.isolation == "inline"]
    if inline and governed:
        notes.append(f"not isolated (inline): {', '.join(inline)}; the run is capped at Tier B")
    used = {name for step in steps for name in (step.target, *step.other_targets)}
    unused = set(data.get("targets", ())) - used
    notes += [f"the target {name!r} is used by no step" for name in sorted(unused)]
    return notes
