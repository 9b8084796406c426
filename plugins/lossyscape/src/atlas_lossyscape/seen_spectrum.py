"""A certified spectrum of an earlier curvature step: what it searched is not searched again.

A record holds eigenvalues and no eigenvectors, which are as long as the model. The vectors are found anew,
but without the fresh starts that look for missed eigenvalues: those were made, and what is found must be
what is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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

    def request(self, request: EigenRequest, site: Site, loss: float, gradient_norm: float) -> EigenRequest:
        """Return the request without fresh starts, where the recorded search was completed.

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
        values = self._eigenvalues(key)
        done = len(values) >= request.top_k and all(q.converged for q in values)
        return evolve(request, fresh_starts=0) if done else request

    def confirm(self, spectrum: Spectrum, key: str) -> None:
        """Check that the pairs found are those recorded, by magnitude.

        Raises:
            InstrumentFailed: A magnitude differs by more than both residuals.
        """
        recorded = self._eigenvalues(key)
        found = zip(spectrum.values, spectrum.residual_norms, spectrum.converged, strict=True)
        for number, ((value, residual, certain), known) in enumerate(zip(found, recorded, strict=False), 1):
            if not certain or not known.converged or known.value is None or known.uncertainty is None:
                continue
            slack = residual + known.uncertainty + _RTOL * spectrum.norm
            if abs(abs(value) - abs(known.value)) > slack:
                raise InstrumentFailed(
                    f"eigenvalue {number} is {value:.6g} here and {known.value:.6g} in step {self.step}",
                    where=f"slice {key}",
                    fix="leave out `sees`, so that missed eigenvalues are looked for here too",
                )

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
