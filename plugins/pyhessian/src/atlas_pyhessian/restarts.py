"""Where a Lanczos iteration leaves its state and finds it again, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from attrs import asdict, define, frozen

from atlas_pyhessian.basis import Basis
from atlas_pyhessian.recall import structured
from atlas_pyhessian.ritz import RitzState
from atlas_pyhessian.savedstates import SavedState, SavedStates
from atlas_pyhessian.spectrum import Certified, Spectrum

__all__ = ["MakeBasis", "Restarts", "RunningState", "Search", "load_spectrum", "save_spectrum"]

MakeBasis = Callable[[int, int, torch.dtype], Basis]
"""Makes an empty basis for so many vectors of such length, kept in such a dtype."""

_RUNNING, _SPECTRUM = "lanczos", "spectrum"


@define
class Search:
    """How far an iteration is, beside its basis.

    Attributes:
        stop: Residual, relative to ||H||, at which the recurrence stops.
        draws: Random vectors drawn.
        clean: Fresh starts in a row that found nothing.
        found: Wanted eigenvalues that fresh starts found.
        known: Wanted eigenvalues before the fresh start under way; None before the first.
        exact: Whether the certifier's products have taken the place of the operator's.
    """

    stop: float
    draws: int = 1
    clean: int = 0
    found: int = 0
    known: list[float] | None = None
    exact: bool = False


@frozen
class RunningState:
    """What an interrupted iteration left."""

    saved: SavedState

    @property
    def spent(self) -> int:
        """Products until then."""
        return int(self.saved.facts["spent"])

    @property
    def expanded(self) -> bool:
        """The last vector has been multiplied, and what to do next is to be decided."""
        return bool(self.saved.facts["expanded"])

    def restore(self, basis: Basis, dtype: torch.dtype) -> tuple[RitzState, Search]:
        """Fill an empty basis and return the state around it, for vectors of `dtype`, and the search."""
        facts, size = self.saved.facts, basis.size
        count = facts["count"]
        residual = torch.empty(size, dtype=dtype, device=basis.device)
        with self.saved.reading() as fill:
            for _ in range(count):
                basis.append_stored(fill)
            fill(residual)
        projected = torch.zeros(basis.capacity, basis.capacity, dtype=torch.float64)
        projected[:count, :count] = torch.tensor(facts["projected"], dtype=torch.float64).view(count, count)
        state = RitzState(
            basis,
            projected,
            residual,
            facts["residual_norm"],
            norm=facts["norm"],
            since_fresh=facts["since_fresh"],
            defect=float(facts["defect"]),
            locked=None if facts["locked"] is None else structured(Certified, facts["locked"]),
        )
        return state, Search(**facts["search"])


@frozen
class Restarts:
    """The states of one iteration.

    Attributes:
        states: Where they are left.
        running: The last one of an interrupted attempt, where there is one that fits.
    """

    states: SavedStates
    running: RunningState | None

    @classmethod
    def of(cls, states: SavedStates) -> Restarts:
        """Look for what an interrupted attempt left."""
        saved = states.load(_RUNNING)
        return cls(states, RunningState(saved) if saved is not None else None)

    def save(self, state: RitzState, search: Search, *, spent: int, expanded: bool) -> None:
        """Write the state, if it is time and there is more of it than a random vector.

        Args:
            state: Basis, projected matrix and residual.
            search: The rest.
            spent: Products so far.
            expanded: See `RunningState.expanded`.
        """
        size = state.basis.num_bytes + state.residual.nbytes
        count = len(state.basis)
        if count == 0 or not self.states.due(size):
            return
        facts = {
            "search": asdict(search),
            "spent": spent,
            "expanded": expanded,
            "count": count,
            "projected": state.projected[:count, :count].tolist(),
            "residual_norm": state.residual_norm,
            "norm": state.norm,
            "since_fresh": state.since_fresh,
            "defect": str(state.defect),
            "locked": None if state.locked is None else asdict(state.locked),
        }

        def vectors() -> Iterator[torch.Tensor]:
            yield from state.basis.stored()
            yield state.residual

        self.states.save(_RUNNING, facts, vectors(), size)


def save_spectrum(states: SavedStates, spectrum: Spectrum) -> bool:
    """Write a finished spectrum, if it is time; return whether it was written."""
    basis = spectrum.basis
    if not states.due(basis.num_bytes):
        return False
    facts = asdict(spectrum, filter=lambda attribute, _: attribute.name != "basis")
    held = {"count": len(basis), "storage": str(basis.storage).removeprefix("torch.")}
    written = states.save(_SPECTRUM, {"spectrum": facts, **held}, basis.stored(), basis.num_bytes)
    if written:
        states.remove(_RUNNING)
    return written


def load_spectrum(states: SavedStates, size: int, make_basis: MakeBasis) -> Spectrum | None:
    """Return a finished spectrum, where there is one that fits.

    Args:
        states: Where it was written.
        size: Length n of its vectors.
        make_basis: Makes a basis to hold them.
    """
    saved = states.load(_SPECTRUM)
    if saved is None:
        return None
    count, storage = saved.facts["count"], getattr(torch, saved.facts["storage"])
    basis = make_basis(count, size, storage)
    with saved.reading() as fill:
        for _ in range(count):
            basis.append_stored(fill)
    spectrum: Spectrum = structured(Spectrum, {**saved.facts["spectrum"], "basis": basis})
    return spectrum
