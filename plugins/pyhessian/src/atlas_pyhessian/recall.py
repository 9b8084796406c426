"""Finished parts of a measurement: what an interrupted attempt has saved is not measured again.

Products that an earlier attempt spent count as if this one had, so that the numbers and their costs are
those of a run that was never interrupted.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from attrs import AttrsInstance, asdict, define, field, has

from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.savedstates import SavedStates

__all__ = ["CountedOperator", "Recall", "structured"]

T = TypeVar("T", bound=AttrsInstance)

_RESULTS = "results"


@define
class CountedOperator:
    """An operator whose count of products includes those of an earlier attempt."""

    operator: SymmetricOperator
    earlier: int = 0

    @property
    def size(self) -> int:
        """Dimension n."""
        return self.operator.size

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of vectors."""
        return self.operator.dtype

    @property
    def device(self) -> torch.device:
        """Device of vectors."""
        return self.operator.device

    @property
    def num_matvecs(self) -> int:
        """Products so far, those of an earlier attempt included."""
        return self.operator.num_matvecs + self.earlier

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with a vector `[n]`, in `out` where given."""
        return self.operator.matvec(vector, out=out)


@define
class Recall:
    """Small results of one part of the measurement by name, written together.

    Attributes:
        states: Where they are kept.
        operator: Counts the products; an earlier attempt's are added as its results are taken.
        results: What is known already and what is added to it; what `states` holds if not given.
        found: Names of the results that an earlier attempt left.
    """

    states: SavedStates
    operator: CountedOperator
    results: dict[str, Any] = field(kw_only=True)
    _pending: list[Callable[[], bool]] = field(factory=list)

    found: tuple[str, ...] = field(init=False)

    @results.default
    def _load(self) -> dict[str, Any]:
        saved = self.states.load(_RESULTS)
        return dict(saved.facts) if saved is not None else {}

    @found.default
    def _names(self) -> tuple[str, ...]:
        return tuple(self.results)

    def meanwhile(self, save: Callable[[], bool]) -> None:
        """Write something else too, at once or between results to come, as soon as it is time."""
        if not save():
            self._pending.append(save)

    def __call__(self, name: str, kind: type[T], compute: Callable[[], T]) -> T:
        """Return the result of that name, computed unless it was found.

        Args:
            name: Its name, the same in every attempt.
            kind: An attrs class of plain values, tuples and such classes.
            compute: Computes it by products of `operator`.
        """
        if name in self.results:
            kept = self.results[name]
            self.operator.earlier += kept["num_matvecs"]
            found: T = structured(kind, kept["value"])
            return found
        before = self.operator.num_matvecs
        value = compute()
        spent = self.operator.num_matvecs - before
        self.results[name] = {"num_matvecs": spent, "value": asdict(value)}
        self._pending = [save for save in self._pending if not save()]
        if self.states.due(0):
            self.states.save(_RESULTS, self.results)
        return value


def structured(kind: Any, value: Any) -> Any:
    """Return a value of a type from what JSON made of it: attrs classes, tuples, lists, unions, scalars."""
    if has(kind):
        hints = get_type_hints(kind)
        return kind(**{name: structured(hints[name], part) for name, part in value.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(structured(arguments[0], part) for part in value)
    if origin is list:
        return [structured(arguments[0], part) for part in value]
    if origin in (Union, types.UnionType):
        return None if value is None else structured(arguments[0], value)
    return value
