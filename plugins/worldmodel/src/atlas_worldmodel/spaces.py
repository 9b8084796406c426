"""What actions an environment takes: numbers between bounds, or one of a few choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import field, frozen

from atlas.errors import BadInput

__all__ = ["ActionSpace", "Box", "Discrete", "decode_space", "encode_space"]


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


@frozen
class Box:
    """Numbers, each between two bounds.

    Attributes:
        low: Least value of each, finite.
        high: Greatest value of each, finite and larger.

    Raises:
        BadInput: The bounds are of unequal number, not finite, or not in order.
    """

    low: tuple[float, ...] = field(converter=_numbers)
    high: tuple[float, ...] = field(converter=_numbers)

    def __attrs_post_init__(self) -> None:
        """Refuse bounds that hold nothing."""
        low, high = np.array(self.low), np.array(self.high)
        if (
            not low.size
            or low.shape != high.shape
            or not np.isfinite([low, high]).all()
            or (low >= high).any()
        ):
            raise BadInput(
                f"the bounds {list(self.low)} and {list(self.high)} hold no box of actions",
                where="action space",
                fix="give as many lower as upper bounds, all finite, each lower below its upper",
            )

    @property
    def width(self) -> int:
        """Numbers of an action as it is stored."""
        return len(self.low)

    @property
    def features(self) -> int:
        """Numbers of an action as a model reads it."""
        return len(self.low)

    def outside(self, actions: np.ndarray) -> np.ndarray:
        """Say of each number of `[..., A]` whether it is out of bounds, beyond rounding in float32."""
        low, high = np.array(self.low), np.array(self.high)
        slack = 1e-6 * (high - low)
        found: np.ndarray = ~((actions >= low - slack) & (actions <= high + slack))
        return found

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Return actions `[..., A]` scaled so that the bounds are -1 and 1, float32."""
        low, high = np.array(self.low), np.array(self.high)
        scaled: np.ndarray = ((2 * actions - low - high) / (high - low)).astype(np.float32)
        return scaled

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """Return the actions of numbers `[..., A]`, those beyond -1 and 1 at the bounds."""
        low, high = np.array(self.low), np.array(self.high)
        actions: np.ndarray = low + (np.clip(encoded, -1, 1) + 1) / 2 * (high - low)
        return actions


@frozen
class Discrete:
    """One of `count` choices, numbered from 0.

    Attributes:
        count: Choices, two at least.

    Raises:
        BadInput: There are fewer than two.
    """

    count: int

    def __attrs_post_init__(self) -> None:
        """Refuse what leaves no choice."""
        if self.count < 2:
            raise BadInput(f"{self.count} choices leave nothing to choose", where="action space")

    @property
    def width(self) -> int:
        """Numbers of an action as it is stored: its choice."""
        return 1

    @property
    def features(self) -> int:
        """Numbers of an action as a model reads it."""
        return self.count

    def outside(self, actions: np.ndarray) -> np.ndarray:
        """Say of each choice of `[..., 1]` whether there is none of that number."""
        found: np.ndarray = ~((actions >= 0) & (actions < self.count) & (actions == np.floor(actions)))
        return found

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Return choices `[..., 1]` as rows of which one number is 1, `[..., count]`, float32."""
        return np.eye(self.count, dtype=np.float32)[np.asarray(actions, dtype=np.int64)[..., 0]]

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """Return the choice of the largest number of each row, `[..., 1]`."""
        return np.asarray(encoded.argmax(-1))[..., None]


ActionSpace = Box | Discrete


def encode_space(space: ActionSpace) -> dict[str, Any]:
    """Return a space as plain values."""
    if isinstance(space, Box):
        return {"kind": "box", "low": list(space.low), "high": list(space.high)}
    return {"kind": "discrete", "count": space.count}


def decode_space(data: Mapping[str, Any], where: str) -> ActionSpace:
    """Return the space of what `encode_space` returned.

    Raises:
        BadInput: It is none.
    """
    try:
        if data["kind"] == "box":
            return Box(data["low"], data["high"])
        if data["kind"] == "discrete":
            return Discrete(int(data["count"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the action space {data!r} cannot be read: {error}", where=where) from error
    raise BadInput(f"the action space is {data['kind']!r}, expected box or discrete", where=where)
