"""Tokens matched one to one with controls of the nearest frequency and position."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

__all__ = ["Matching", "match_controls"]

_Floats = npt.NDArray[np.float64]
_Places = npt.NDArray[np.intp]


@frozen
class Matching:
    """Pairs of tokens, each token in one pair at most, and how near the two of a pair are.

    Attributes:
        stimulus: Positions of the tokens, `[p]`, from the most frequent to the rarest.
        control: Positions of their controls, `[p]`.
        gaps: Rank by rarity and by position of token less control, of all ranks, `[p, 2]`.
        rarity_gap: Mean size of the first, as a part of that over all pairs that could be formed.
        position_gap: The same of the second.
    """

    stimulus: _Places
    control: _Places
    gaps: _Floats
    rarity_gap: float
    position_gap: float


def match_controls(rarity: _Floats, position: _Floats) -> Matching:
    """Match tokens with controls, without a look at what was measured of either.

    Along rising rarity every other token becomes the control, so that both sides are equally rare. The
    pairs have the least sum of squared gaps in rank (Hungarian method); of an odd number one is left out.

    Args:
        rarity: Grows with rarity, `[n]`, n at least 2; only its ranks matter.
        position: Place in the text, `[n]`; only its ranks matter.
    """
    count = len(rarity)
    places = np.stack([rankdata(rarity), rankdata(position)], 1) / count
    order = np.argsort(rarity, kind="stable")[: count - count % 2]
    tokens, controls = order[0::2], order[1::2]
    squares = ((places[tokens][:, None] - places[controls][None]) ** 2).sum(2)
    left, right = linear_sum_assignment(squares)
    stimulus, control = tokens[left], controls[right]
    gaps = places[stimulus] - places[control]
    quality = []
    for column in range(2):
        sizes = np.abs(places[:, None, column] - places[None, :, column])
        usual = sizes.sum() / (count * (count - 1))
        quality.append(float(np.abs(gaps[:, column]).mean() / usual) if usual else 0.0)
    return Matching(stimulus, control, gaps, *quality)
