"""How well coders agree on what only a person may judge: Krippendorff's alpha with its interval.

Alpha is that of nominal values (Krippendorff 2004, "Content Analysis", chapter 11), by NLTK. Its interval is
a percentile bootstrap over the rows that two coders or more judged, drawn with replacement, with the coders
held fixed. A sample in which all codes are one has no alpha and is left out; the note says how many were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from atlas.judgements import Judgements, Key
from atlas.quantities import Quantity, UncertaintyKind
from atlas.randomness import RandomStreams
from atlas.record import canonical_json

__all__ = ["RESAMPLES", "agreement"]

RESAMPLES = 2_000
"""Bootstrap samples behind an interval."""

Unit = tuple[tuple[str, str], ...]
"""(coder, value) of each coder who judged a row."""


def agreement(coders: Mapping[str, Judgements], column: str) -> Quantity:
    """Return alpha of one column over the rows that two coders or more judged.

    Args:
        coders: What each coder decided.
        column: `stance`, `resolution_code`.
    """
    import numpy as np

    name = f"alpha_{column}"
    units = _units(coders, column)
    if not units:
        return _undefined(name, 0, "no row was judged by two coders")
    value = _alpha(units)
    if value is None:
        return _undefined(name, len(units), "every code is the same, so chance leaves nothing to agree on")
    if len(units) == 1:
        why = "one row: no interval can be given"
        return Quantity(name, value, None, UncertaintyKind.UNCERTIFIED, num_samples=1, note=why)
    digest = hashlib.sha256(canonical_json([[list(item) for item in unit] for unit in units])).hexdigest()
    generator = RandomStreams(int(digest[:16], 16)).generator("agreement bootstrap", name=column)
    drawn = generator.integers(len(units), size=(RESAMPLES, len(units)))
    alphas = [found for row in drawn if (found := _alpha([units[n] for n in row])) is not None]
    left_out = RESAMPLES - len(alphas)
    low, high = (float(end) for end in np.percentile(alphas, [2.5, 97.5]))
    return Quantity(
        name,
        value,
        (high - low) / 2,
        UncertaintyKind.INTERVAL_95,
        num_samples=len(units),
        low=low,
        high=high,
        note=f"{left_out} of {RESAMPLES} samples had one code only" if left_out else "",
    )


def _undefined(name: str, n: int, why: str) -> Quantity:
    return Quantity(name, None, None, UncertaintyKind.UNDEFINED, num_samples=n, note=why)


def _units(coders: Mapping[str, Judgements], column: str) -> list[Unit]:
    keys: dict[Key, None] = {}
    for judged in coders.values():
        keys |= dict.fromkeys(judged.values)
    units = (
        tuple(
            (coder, value)
            for coder, judged in sorted(coders.items())
            if (value := judged.values.get(key, {}).get(column))
        )
        for key in sorted(keys)
    )
    return [unit for unit in units if len(unit) > 1]


def _alpha(units: Sequence[Unit]) -> float | None:
    """Return alpha; None where all values are one."""
    from nltk.metrics.agreement import AnnotationTask

    if len({value for unit in units for _, value in unit}) < 2:
        return None
    data = [(coder, number, value) for number, unit in enumerate(units) for coder, value in unit]
    return float(AnnotationTask(data=data).alpha())
