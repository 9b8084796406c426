"""The objective: registered loss terms summed by a manifest's weights, with each term's own value.

Nothing here imports torch; the terms do their arithmetic on the tensors that they are given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import field, frozen

from atlas.errors import BadInput, PluginFault

if TYPE_CHECKING:
    import torch

    from atlas.contracts import LossTerm

__all__ = ["Objective", "ObjectiveValue"]


class ObjectiveValue(NamedTuple):
    """What an objective is worth at one point.

    Attributes:
        total: Weighted sum of the terms, a scalar with its graph.
        terms: Value of each term before its weight, a scalar with its graph.
        groups: Weighted sum of the terms of each gradient group; they add up to `total`.
    """

    total: torch.Tensor
    terms: Mapping[str, torch.Tensor]
    groups: Mapping[str, torch.Tensor]


def _by_name(terms: Iterable[LossTerm]) -> dict[str, LossTerm]:
    named: dict[str, LossTerm] = {}
    for term in terms:
        if term.name in named:
            raise BadInput(f"the loss term {term.name!r} is given twice", where="loss")
        named[term.name] = term
    if not named:
        raise BadInput("an objective needs at least one loss term", where="loss")
    return named


@frozen
class Objective:
    """A weighted sum of loss terms.

    A term counts with its weight, or with its default weight where `weights` does not name it. A
    weight of zero leaves the term out: it is not computed.

    Args:
        terms: The terms, each name once.
        weights: Weight by term name; finite numbers.

    Raises:
        BadInput: `weights` names a term that is not given, a weight is no finite number, or every
            weight is zero.
    """

    terms: Mapping[str, LossTerm] = field(converter=_by_name)
    weights: Mapping[str, float] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Refuse names and weights that cannot be meant."""
        for name, weight in self.weights.items():
            if name not in self.terms:
                raise BadInput(
                    f"there is no loss term {name!r}{_suggestion(name, self.terms)}",
                    where=f"loss.{name}",
                    fix=f"choose among: {', '.join(sorted(self.terms))}",
                )
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not number or not math.isfinite(weight):
                raise BadInput(f"the weight is {weight!r}, expected a finite number", where=f"loss.{name}")
        if not self.active:
            raise BadInput(
                "every loss term has the weight 0, so there is nothing to differentiate",
                where="loss",
                fix=f"give one of them a weight: {', '.join(sorted(self.terms))}",
            )

    @property
    def active(self) -> Mapping[str, float]:
        """Weight by name of the terms that count, in the order in which the terms were given."""
        weights = {
            name: float(self.weights.get(name, term.default_weight)) for name, term in self.terms.items()
        }
        return {name: weight for name, weight in weights.items() if weight != 0.0}

    def __call__(self, outputs: Mapping[str, Any]) -> ObjectiveValue:
        """Evaluate the terms.

        Args:
            outputs: What a term's function receives, by the term's slot.

        Raises:
            BadInput: A term reads a slot that is not among `outputs`.
            PluginFault: A term returns something other than a scalar tensor.
        """
        values: dict[str, torch.Tensor] = {}
        groups: dict[str, torch.Tensor] = {}
        for name, weight in self.active.items():
            term = self.terms[name]
            if term.slot not in outputs:
                raise BadInput(
                    f"the loss term {name!r} reads the outputs {term.slot!r}, which are not there"
                    f"{_suggestion(term.slot, outputs)}",
                    where=f"loss.{name}",
                    fix=f"outputs at hand: {', '.join(sorted(outputs)) or 'none'}",
                )
            value = term.function(outputs[term.slot])
            if getattr(value, "ndim", None) != 0:
                shape = getattr(value, "shape", type(value).__name__)
                raise PluginFault(f"the loss term {name!r} returns {shape}, expected a scalar tensor")
            values[name] = value
            so_far = groups.get(term.group)
            groups[term.group] = weight * value if so_far is None else so_far.add(value, alpha=weight)
        return ObjectiveValue(reduce(add, groups.values()), values, groups)


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
