"""The economy axis: where a model is at home, and which of its sessions have left home.

Home is read from a baseline, sessions that carry no epistemic load. Its R is their median. A session has
left home where its R lies outside the range of the baseline. If it was drawn as the baseline was and
ties are absent, this happens by chance with probability 2/(n + 1) for n baseline sessions, whatever the
distribution (exchangeability: each of the n + 1 values is equally likely to be the largest, or the
smallest). The side of the axis is that of R against a boundary that the manifest declares; a quadrant
needs the stance too, which a person gives.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

__all__ = ["Home", "Migration", "home_of", "home_quadrant", "migration", "quadrant", "side"]

SURGICAL = "Surgical"
VERBOSE = "Verbose"
_LETTERS = {SURGICAL: "S", VERBOSE: "V", "Compliant": "C", "Combative": "Co"}


@frozen
class Home:
    """A model's baseline on the economy axis.

    Attributes:
        ratio: Median R of the baseline.
        low: Its smallest R.
        high: Its largest R.
        num_sessions: Sessions in it.
        economy: Side of the declared boundary.
    """

    ratio: float
    low: float
    high: float
    num_sessions: int
    economy: str

    @property
    def chance(self) -> float:
        """Probability that a further session of the same kind seems to have left home."""
        return 2 / (self.num_sessions + 1)

    def shift(self, ratio: float) -> float | None:
        """Return log2(R / home R), or None where either is zero."""
        return math.log2(ratio / self.ratio) if ratio > 0 and self.ratio > 0 else None

    def migrated(self, ratio: float) -> str:
        """Return `none`, or the side to which R has left the range of the baseline."""
        return VERBOSE if ratio > self.high else SURGICAL if ratio < self.low else "none"


def side(ratio: float, boundary: float) -> str:
    """Return the side of the axis: Verbose above the boundary, Surgical at and below it."""
    return VERBOSE if ratio > boundary else SURGICAL


def home_of(ratios: Sequence[float], boundary: float) -> Home | None:
    """Return the home of a baseline; None of fewer than two sessions."""
    if len(ratios) < 2:
        return None
    middle = statistics.median(ratios)
    return Home(middle, min(ratios), max(ratios), len(ratios), side(middle, boundary))


@frozen
class Migration:
    """Where a session stands against home, by one coder's stances.

    Attributes:
        session: The session.
        model: Its model.
        home: Home quadrant, or empty where the baseline has no one stance.
        quadrant: Quadrant of the session, or empty where its stance was not given.
        direction: `none`; `VC to SCo`; `more Verbose` or `more Surgical` within the quadrant; or empty.
    """

    session: str
    model: str
    home: str
    quadrant: str
    direction: str


def quadrant(economy: str, stance: str) -> str:
    """Return `VC`, `VCo`, `SC` or `SCo`."""
    return _LETTERS[economy] + _LETTERS[stance]


def home_quadrant(rows: Iterable[Mapping[str, Any]], stances: Mapping[str, str], boundary: float) -> str:
    """Return a model's home quadrant: its baseline's economy, and the stance most often given there.

    Returns:
        Empty where there are fewer than two baseline sessions, none has a stance, or two stances are as
        frequent.
    """
    baseline = [row for row in rows if row["home"] and row["token_ratio"] is not None]
    home = home_of([row["token_ratio"] for row in baseline], boundary)
    ranked = Counter(stances[row["session"]] for row in baseline if row["session"] in stances).most_common()
    if home is None or not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return ""
    return quadrant(home.economy, ranked[0][0])


def migration(
    rows: Sequence[Mapping[str, Any]], stances: Mapping[str, str], boundary: float
) -> tuple[Migration, ...]:
    """Return where the sessions outside the baselines stand, by one coder's stances.

    Args:
        rows: Of the table `ecm-sessions`.
        stances: By session, as the coder gave them.
        boundary: The boundary of R that the run declared.

    A session whose R lies in the range of its home keeps the economy of home, so that a home near the
    boundary does not make every session migrate.
    """
    homes = {
        model: home_quadrant([row for row in rows if row["model"] == model], stances, boundary)
        for model in dict.fromkeys(row["model"] for row in rows)
    }
    return tuple(
        _one(row, homes[row["model"]], stances.get(row["session"], "")) for row in rows if not row["home"]
    )


def _one(row: Mapping[str, Any], home: str, stance: str) -> Migration:
    moved = row["economy_migration"]
    if not (home and stance and moved):
        return Migration(row["session"], row["model"], home, "", "")
    economy = row["economy"] if moved != "none" else VERBOSE if home.startswith("V") else SURGICAL
    found = quadrant(economy, stance)
    within = "none" if moved == "none" else f"more {moved}"
    return Migration(
        row["session"], row["model"], home, found, within if found == home else f"{home} to {found}"
    )
