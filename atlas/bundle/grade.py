"""How well a repeated run agrees with the recorded one, and what keeps a run from being repeated here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from attrs import frozen

from atlas.bundle.findings import digest_file
from atlas.quantities import Agreement, Quantity, compare
from atlas.record import RunView

__all__ = ["Grade", "grade", "identical_tables", "obstacles"]

_RTOL = {"float64": 1e-8, "double": 1e-8, "float32": 1e-4, "float": 1e-4}
_RTOL_HALF = 1e-2
"""For float16, bfloat16 and what else has some three digits."""
_RTOL_ACROSS_DEVICES = 1e-3
_SPECTRAL = ("lambda", "eigenvalue")


@frozen
class Grade:
    """One quantity, recorded and repeated.

    Attributes:
        step: The step that measured it.
        name: Quantity, with index and slice where it has them.
        agreement: How well the two agree.
        recorded: As it was recorded.
        repeated: As it came out again; None if it was not measured.
    """

    step: str
    name: str
    agreement: Agreement
    recorded: Quantity
    repeated: Quantity | None

    def __str__(self) -> str:
        """One line for the terminal."""
        line = f"{self.agreement.value}: {self.step} {self.name} = {_number(self.recorded)}"
        if self.agreement is Agreement.IDENTICAL:
            return line
        return f"{line}, again {_number(self.repeated) if self.repeated is not None else 'not measured'}"


def _number(quantity: Quantity) -> str:
    if quantity.value is None:
        return "undefined"
    error = "" if quantity.uncertainty is None else f" ± {quantity.uncertainty:.2g}"
    return f"{quantity.value!r}{error}"


def grade(recorded: RunView, repeated: RunView, steps: Mapping[str, str] | None = None) -> tuple[Grade, ...]:
    """Compare every recorded quantity of the steps that were repeated.

    A step stands for the one of the same id, or for the one that `steps` names for it.

    An eigenvalue (named `lambda...` or `eigenvalue...`) is compared on the scale of the step's largest
    eigenvalue of that unit and slice, since small ones have no relative accuracy; others on their own.
    The relative tolerance is that of the dtype that the step's facts state, and 1e-3 at least where
    the two ran on different devices. A quantity that was not measured again differs.
    """
    again = {(step, *_key(q)): q for step, q in repeated.quantities()}
    named = {step: step for step in repeated.finished_steps()} if steps is None else steps
    first = [(step, q) for step, q in recorded.quantities() if step in named]
    grades = []
    for step, quantity in first:
        other = again.get((named[step], *_key(quantity)))
        if other is None:
            agreement = Agreement.DIFFERS
        else:
            scale = _scale(quantity, [q for s, q in first if s == step])
            rtol = _rtol(_facts(recorded, step), _facts(repeated, named[step]))
            agreement = compare(quantity, other, scale=scale, rtol=rtol)
        grades.append(Grade(step, _name(quantity), agreement, quantity, other))
    return tuple(grades)


def _key(quantity: Quantity) -> tuple[str, str, int | None, str]:
    return quantity.quantity, quantity.slice, quantity.index, quantity.unit


def _name(quantity: Quantity) -> str:
    index = "" if quantity.index is None else f" {quantity.index}"
    part = "" if quantity.slice == "all" else f" of {quantity.slice}"
    return f"{quantity.quantity}{index}{part}"


def _scale(quantity: Quantity, family: list[Quantity]) -> float:
    own = abs(quantity.value or 0.0)
    if not quantity.quantity.startswith(_SPECTRAL):
        return own
    alike = (
        abs(q.value)
        for q in family
        if q.value is not None
        and q.quantity.startswith(_SPECTRAL)
        and (q.unit, q.slice) == (quantity.unit, quantity.slice)
    )
    return max(alike, default=own)


def _facts(view: RunView, step: str) -> Mapping[str, str]:
    path = f"raw/{step}/facts.json"
    facts: Mapping[str, str] = json.loads(view.read(path)) if path in view.artifacts else {}
    return facts


def _named(facts: Mapping[str, str], name: str) -> set[str]:
    """Return what the facts of the step and of each of its targets hold under a name."""
    return {
        value
        for key, value in facts.items()
        if key == name or (key.startswith(("target.", "targets.")) and key.endswith(f".{name}"))
    }


def _rtol(recorded: Mapping[str, str], repeated: Mapping[str, str]) -> float:
    dtypes = {d for facts in (recorded, repeated) for d in _named(facts, "dtype") or {"float32"}}
    rtol = max(_RTOL.get(dtype.removeprefix("torch."), _RTOL_HALF) for dtype in dtypes)
    moved = _named(recorded, "device") != _named(repeated, "device")
    return max(rtol, _RTOL_ACROSS_DEVICES) if moved else rtol


def identical_tables(recorded: RunView, repeated: RunView) -> Mapping[str, bool]:
    """Return for each raw CSV of the repeated steps whether its bytes are those of the record."""
    steps = set(repeated.finished_steps())
    return {
        path: path in repeated.artifacts and repeated.artifacts[path].sha256 == artifact.sha256
        for path, artifact in recorded.artifacts.items()
        if path.startswith("raw/") and path.endswith(".csv") and path.split("/")[1] in steps
    }


def obstacles(view: RunView) -> list[str]:
    """Return why a run cannot be repeated on this machine; empty when nothing is known to be missing.

    Looked at is what the record names: a manifest, finished steps, plugins with their versions, the
    files of local models with their digests, steps that a person took part in.
    """
    if not view.manifest:
        return ["it was collected by hand, so there is nothing to run"]
    if not any(view.of("step-finished")):
        return ["no step of it was finished"]
    return [*_missing_plugins(view), *_missing_models(view), *_human_steps(view)]


def _missing_plugins(view: RunView) -> Iterator[str]:
    if "environment/plugins.json" not in view.artifacts:
        yield "the record does not say which plugins it was made with"
        return
    for name, pin in json.loads(view.read("environment/plugins.json"))["plugins"].items():
        wanted = f"{pin['distribution']} {pin['version']}"
        try:
            found = version(pin["distribution"])
        except PackageNotFoundError:
            yield f"the plugin {name!r} ({wanted}) is not installed"
            continue
        if found != pin["version"]:
            yield f"the plugin {name!r} was {wanted}, installed is {found}"


def _missing_models(view: RunView) -> Iterator[str]:
    """Yield local models that are gone or changed; others are fetched by their pinned revision."""
    opened = {(name, ""): entry for name, entry in (view.manifest.get("targets") or {}).items()}
    for event in view.of("target-fetched"):
        opened[event.data["target"], event.data.get("member", "")] = json.loads(event.data["params"])
    for (name, label), params in opened.items():
        path = params.get("path")
        if not isinstance(path, str):
            continue
        model = Path(path)
        title = f"target {name!r}" + (f", {label}," if label else "")
        if not model.exists():
            yield f"the model of {title} is not here: {path} (a bundle holds no weights)"
            continue
        for file, sha256 in _weights(view, name, label).items():
            place = model / file if model.is_dir() else model
            if not place.is_file():
                yield f"the model of {title} lacks the file {file}"
            elif digest_file(place).sha256 != sha256:
                yield f"the file {file} of {title} is not the one that was measured"


def _weights(view: RunView, target: str, label: str) -> Mapping[str, str]:
    """Return the digests of a target's weight files by name, as the facts of its steps state them.

    Args:
        view: The run.
        target: Its name.
        label: Of a member of a series, else empty.
    """
    found = {}
    for step in view.manifest.get("steps", ()):
        prefix = f"targets.{target}."
        if step.get("target") == target:
            prefix = f"target.{label}." if label else "target."
        digests = f"{prefix}sha256:"
        for key, sha256 in _facts(view, step["id"]).items():
            if key.startswith(digests):
                found[key.removeprefix(digests)] = sha256
    return found


def _human_steps(view: RunView) -> Iterator[str]:
    """Yield the measuring steps that a person took part in; interpreting ones are not repeated."""
    measured = next((e.seq for e in view.of("stage-done") if e.data["stage"] == "measure"), None)
    for event in view.of("step-waiting"):
        if measured is None or event.seq < measured:
            yield f"step {event.data['step']!r} waited for a person"
