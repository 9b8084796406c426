"""A certified spectrum of an earlier curvature step: what it searched is not searched again.

A record holds eigenvalues and no eigenvectors, which are as long as the model. The vectors are found anew,
at first without the fresh starts that look for missed eigenvalues. Where that search found none, this one
meets every recorded value and is done; where it found some, as of a repeated eigenvalue it always does, a
recorded value is missed here too, and the fresh starts are made after all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from atlas_pyhessian.wu2000thickrestart import EigenRequest, Spectrum
from attrs import evolve, frozen

from atlas.errors import BadInput, InstrumentFailed
from atlas.quantities import Quantity
from atlas.tables import QUANTITIES, read_csv
from atlas_lossyscape.members import Site

__all__ = ["SeenSpectrum", "seen_spectrum"]

_RTOL = 1e-3
"""By how much loss and gradient may differ: float32, and other micro-batches."""


@frozen
class SeenSpectrum:
    """What a curvature step recorded.

    Attributes:
        step: Its id.
        quantities: By slice.
        facts: Its settings.
    """

    step: str
    quantities: Mapping[str, list[Quantity]]
    facts: Mapping[str, str]

    def check(self, site: Site, loss: float, gradient_norm: float) -> None:
        """Check that the step measured this very curvature.

        Raises:
            BadInput: The step measured another matrix, slice, loss or gradient.
        """
        key, parameters = site.part.key, site.parameters
        facts = {
            "operator": "hessian",
            "num_parameters": str(parameters.size),
            "dtype": str(parameters.dtype),
        }
        apart = [name for name, value in facts.items() if self.facts.get(name) != value]
        here = {"loss": loss, "gradient_norm": gradient_norm}
        for name, value in here.items():
            found = [q.value for q in self.quantities.get(key, ()) if q.quantity == name]
            if not found or found[0] is None or abs(found[0] - value) > _RTOL * abs(value):
                apart.append(f"{name} of {key}")
        if apart:
            raise BadInput(
                f"step {self.step} measured another curvature: {', '.join(apart)} differ",
                where="sees",
                fix="see a step on the same target, parameters, dtype and stimulus, or none",
            )

    def spectrum(self, request: EigenRequest, key: str, find: Callable[[EigenRequest], Spectrum]) -> Spectrum:
        """Return the pairs found, which are those recorded by magnitude; all products are counted.

        Args:
            request: With the fresh starts that are made where they are needed.
            key: Of the slice.
            find: Finds what is requested, from the same start vectors each time.

        Raises:
            InstrumentFailed: Even with fresh starts, a magnitude differs by more than both residuals.
        """
        spectrum = find(evolve(request, fresh_starts=0)) if self._searched(request, key) else find(request)
        apart = self._difference(spectrum, key)
        if apart is not None and self._searched(request, key):
            spent = spectrum.num_matvecs
            spectrum = find(request)
            spectrum = evolve(spectrum, num_matvecs=spectrum.num_matvecs + spent)
            apart = self._difference(spectrum, key)
        if apart is not None:
            raise InstrumentFailed(
                f"{apart} in step {self.step}",
                where=f"slice {key}",
                fix="one of the two searches missed an eigenvalue: raise `fresh_starts` in the earlier step",
            )
        return spectrum

    def _searched(self, request: EigenRequest, key: str) -> bool:
        """Tell whether missed eigenvalues were looked for, and as many pairs certified as are requested."""
        values = self._eigenvalues(key)
        return len(values) >= request.top_k and all(q.converged for q in values)

    def _difference(self, spectrum: Spectrum, key: str) -> str | None:
        """Return in words by what the pairs found and those recorded differ."""
        found = zip(spectrum.values, spectrum.residual_norms, spectrum.converged, strict=True)
        pairs = zip(found, self._eigenvalues(key), strict=False)
        for number, ((value, residual, certain), known) in enumerate(pairs, 1):
            if not certain or not known.converged or known.value is None or known.uncertainty is None:
                continue
            slack = residual + known.uncertainty + _RTOL * spectrum.norm
            if abs(abs(value) - abs(known.value)) > slack:
                return f"eigenvalue {number} is {value:.6g} here and {known.value:.6g}"
        return None

    def _eigenvalues(self, key: str) -> list[Quantity]:
        return [q for q in self.quantities.get(key, ()) if q.quantity == "eigenvalue"]


def seen_spectrum(inputs: Mapping[str, Path]) -> SeenSpectrum | None:
    """Return what the step sees of a curvature step, or None where it sees nothing.

    Raises:
        BadInput: What it sees is no curvature step's, or two of them.
    """
    if not inputs:
        return None
    tables = [path for path in inputs if path.endswith("/quantities.csv")]
    folder = tables[0].rpartition("/")[0] if len(tables) == 1 else ""
    if f"{folder}/facts.json" not in inputs or f"{folder}/spectrum.csv" not in inputs:
        raise BadInput(
            "the step sees something else than one curvature step",
            where="sees",
            fix="write `sees: [{from: STEP.raw}]` with a pyhessian step, or leave it out",
        )
    rows = read_csv(QUANTITIES, inputs[tables[0]].read_bytes(), where=tables[0])
    by_slice: dict[str, list[Quantity]] = {}
    for row in rows:
        quantity = Quantity(**(row | {"note": row["note"] or ""}))  # type: ignore[arg-type]
        by_slice.setdefault(quantity.slice, []).append(quantity)
    facts = json.loads(inputs[f"{folder}/facts.json"].read_text("utf-8"))
    return SeenSpectrum(folder.removeprefix("raw/"), by_slice, facts)
