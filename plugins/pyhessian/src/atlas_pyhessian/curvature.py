"""Curvature of any module's loss from Python: an object that keeps what it has paid for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from atlas.errors import BadInput
from atlas.randomness import RandomStreams
from atlas_pyhessian import reductions
from atlas_pyhessian.card_params import card_params
from atlas_pyhessian.measurement import Measurement, measure_curvature
from atlas_pyhessian.module_session import ModuleSession, SelfPreparingOperator, as_scipy
from atlas_pyhessian.module_target import ModuleTarget
from atlas_pyhessian.operators import MATRIX, Kind, LossFacts, LossOperator, Products
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.results import Result
from atlas_pyhessian.settings import Settings
from atlas_pyhessian.spectrum import EigenRequest, Spectrum
from atlas_pyhessian.table_rows import density_rows, spectrum_rows

if TYPE_CHECKING:
    import torch.distributed as dist
    from scipy.sparse.linalg import LinearOperator

__all__ = ["Curvature"]

_PURPOSE = "all"
"""Names the random draws as an undivided stimulus does, so that equal seeds give equal probes."""

_PER_CALL = {
    *("top_k", "ends", "tolerance", "max_matvecs", "fresh_starts", "basis"),
    *("trace", "density", "condition"),
}
"""Parameters of a step that a call may set; a Curvature or its data settle others when it is made."""


def _covers(had: EigenRequest, spectrum: Spectrum, wanted: EigenRequest) -> bool:
    """Say whether a spectrum answers a request, or would not answer it better if it were run again."""
    enough = had.top_k >= wanted.top_k and had.ends >= wanted.ends
    exact = had.tolerance <= wanted.tolerance and had.fresh_starts >= wanted.fresh_starts
    done = spectrum.searched and all(spectrum.converged)
    return enough and exact and (done or had.max_matvecs >= wanted.max_matvecs)


class Curvature:
    """The curvature of a mean loss over all given data, at the module's present weights.

    Nothing is computed before it is asked for. The first of `spectrum`, `trace`, `density` and `measure`
    runs Lanczos, which the others then share; a call that asks for no more than is known costs nothing.
    The module is in evaluation mode with eager attention during a call, and as it was found afterwards.
    If its weights have changed between two calls, all is measured anew.

    Args:
        model: Any `torch.nn.Module`, on the device where it is to be measured.
        loss: `loss(outputs, targets)`, a scalar; where a batch is a dict, `loss(outputs, batch)`. None takes
            the `.loss` that the module itself returns, as models of transformers do when they get labels.
        data: A DataLoader, list or generator of `(inputs, targets)` or of dicts of the module's arguments, or
            one such batch of tensors. Read once, in the order in which it comes (with `shuffle=True` this
            pass's order), and kept where it lies; each batch goes to the module's device when its turn comes.
        parameters: Globs on parameter names; the others are held fixed.
        operator: `hessian`, `ggn` or `empirical_fisher`.
        seed: Of start vectors and probes.
        reduction: Whether `loss` is a `mean` over its batch or a `sum`; None reads `loss.reduction`, and
            else takes it for a mean.
        weight: Returns what a batch's mean was divided by; None counts scored integer targets (those of
            cross-entropy, -100 left out), else samples. Uneven batches are weighted by it.
        sample_dims: Leading dimensions of the outputs that count samples of the empirical Fisher; None
            takes one, or all but the last where the module computes the loss.
        dtype: `target`, `float32` or `float64`: precision to widen to during a call.
        graph: `retained`, `recompute` or `auto`, which retains the graph of a single batch.
        products: How to iterate on a CUDA device, as the card's `products`.
        group: Processes started by `torchrun` that measure together, each with the same model and arguments
            and with data of its own: `torch.distributed.group.WORLD`. They share the Lanczos basis.
        report: Told what is being done, products so far and the current relative error.

    Raises:
        BadInput: The data are empty or of no known form, or a parameter is not admitted.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Callable[[Any, Any], torch.Tensor] | None = None,
        data: Iterable[Any] = (),
        *,
        parameters: str | Sequence[str] = ("*",),
        operator: Kind = "hessian",
        seed: int = 0,
        reduction: Literal["mean", "sum"] | None = None,
        weight: Callable[[Any], float] | None = None,
        sample_dims: int | None = None,
        dtype: Literal["target", "float32", "float64"] = "target",
        graph: Literal["auto", "retained", "recompute"] = "auto",
        products: Products = "auto",
        group: dist.ProcessGroup | None = None,
        report: Callable[[str, int, float], None] | None = None,
    ) -> None:
        if not isinstance(model, torch.nn.Module):
            raise BadInput(f"the model is a {type(model).__name__}", fix="give a torch.nn.Module first")
        globs = [parameters] if isinstance(parameters, str) else list(parameters)
        self._common: dict[str, Any] = {
            "parameters": globs,
            "operator": operator,
            "dtype": dtype,
            "graph": graph,
        }
        self._common |= {"products": products}
        self._settings = Settings.from_params(card_params(self._common))
        target = ModuleTarget(model, loss, data, reduction=reduction, weight=weight, sample_dims=sample_dims)
        self._session = ModuleSession(target, self._settings, group)
        self._streams = RandomStreams(seed)
        self._report = report or (lambda what, products, error: None)
        self._asked: dict[str, Any] = {}
        self._forget()

    @contextmanager
    def _ready(self) -> Iterator[tuple[Parameters, LossOperator]]:
        """Prepare the module; what is known of other weights than it has now is dropped."""
        with self._session.ready() as (parameters, operator):
            if self._generation != self._session.generation:
                self._forget()
            yield parameters, operator

    def _forget(self) -> None:
        self._generation = self._session.generation
        self._facts: LossFacts | None = None
        self._request: EigenRequest | None = None
        self._spectrum: Spectrum | None = None
        self._results: dict[str, Any] = {}
        self._density: dict[str, Any] | Literal[False] = False

    @property
    def model(self) -> torch.nn.Module:
        """The module."""
        return self._session.target.module

    @property
    def operator(self) -> SelfPreparingOperator:
        """The matrix for algorithms of one's own: `size`, `dtype`, `device`, `matvec(vector, out=None)`.

        Each product prepares the module and puts it back. A retained graph stays until `release`.
        """
        with self._session.ready() as (parameters, _):
            return SelfPreparingOperator(self._session, parameters.size, parameters.dtype, parameters.device)

    def to_scipy(self) -> LinearOperator:
        """Return the matrix as a `scipy.sparse.linalg.LinearOperator`, for `eigsh` and its kin."""
        return as_scipy(self.operator)

    def release(self) -> None:
        """Free a retained graph; the next product builds it again. Results are kept."""
        self._session.release()

    def loss(self) -> LossFacts:
        """Return the mean loss, the norm of its gradient, and each batch's loss."""
        with self._ready() as (_, operator):
            if self._facts is None:
                self._facts = operator.facts()
            return self._facts

    def spectrum(
        self,
        top_k: int = 5,
        ends: int = 1,
        tolerance: float = 1e-3,
        *,
        max_matvecs: int = 300,
        fresh_starts: int = 1,
        **params: Any,
    ) -> Result:
        """Return the extreme eigenvalues, each with the norm of its verified residual, and their ratios.

        Args:
            top_k: Eigenvalues of largest magnitude.
            ends: Eigenvalues at each algebraic end besides.
            tolerance: Largest residual norm, relative to the largest magnitude.
            max_matvecs: Products allowed; what is left open then is said.
            fresh_starts: Fresh random vectors, in a row, that must find nothing new.
            params: Other parameters of the card, such as `basis` and `condition`.
        """
        asked = {
            "top_k": top_k,
            "ends": ends,
            "tolerance": tolerance,
            "max_matvecs": max_matvecs,
            "fresh_starts": fresh_starts,
            **params,
        }
        return self._result(self._measured(asked, {"trace": False, "density": False}), frozenset())

    def trace(self, rel_se: float | None = 0.05, max_probes: int = 32, **params: Any) -> Result:
        """Return trace and Frobenius norm, estimated by probes cleared of the known eigenvectors.

        Args:
            rel_se: Relative standard error at which to stop; None spends all probes.
            max_probes: Most probes, one product each.
            params: Other keys of the card's `trace`.
        """
        with self._ready():  # a density of other weights is forgotten, not measured again
            pass
        trace = {"max_probes": max_probes, **params} | ({} if rel_se is None else {"rel_se": rel_se})
        return self._beyond_spectrum({"density": self._density}, trace=trace)

    def density(self, probes: int = 4, steps: int = 16, bins: int = 60, **params: Any) -> Result:
        """Return how many eigenvalues lie in each interval, and counts around zero with their intervals.

        Args:
            probes: Random probes.
            steps: Products for each probe.
            bins: Intervals.
            params: Other keys of the card's `density`.
        """
        density = {"probes": probes, "steps": steps, "bins": bins, **params}
        result = self._beyond_spectrum({"trace": False}, density=density)
        self._density = density
        return result

    def measure(self, **params: Any) -> Result:
        """Return everything: eigenvalues, trace, density and condition, by the parameters of the card.

        They are those of a manifest's step: `measure(top_k=3, trace={"rel_se": 0.02}, density=False)`. The
        density is measured unless it is switched off.
        """
        beyond = {"density": {}} | {name: params.pop(name) for name in ("trace", "density") if name in params}
        result = self._result(self._measured(params, beyond), frozenset())
        self._density = beyond["density"]
        return result

    def eigenvector(self, index: int = 1) -> dict[str, torch.Tensor]:
        """Return a unit eigenvector as parameter name -> tensor, numbered as the spectrum is, from 1.

        Raises:
            BadInput: The spectrum holds no such eigenvalue.
        """
        with self._ready() as (parameters, _):
            spectrum = self._spectrum
            if spectrum is None or not 1 <= index <= len(spectrum.values):
                count = 0 if spectrum is None else len(spectrum.values)
                raise BadInput(
                    f"there is no eigenvector {index}: {count} eigenvalues are known",
                    fix=f"call `spectrum(top_k={max(index, 1)})` first",
                )
            held = spectrum.ritz_values[: len(spectrum.values)]
            position = sorted(range(len(held)), key=lambda i: -abs(held[i]))[index - 1]
            vector = spectrum.basis.vector(position)
            vector /= reductions.norm(vector)
            return dict(zip(parameters.names, parameters.views(vector), strict=True))

    def _measured(self, asked: dict[str, Any], beyond: dict[str, Any]) -> Measurement:
        """Measure what is asked of the eigenvalues, and what goes beyond them."""
        filled = card_params({**self._common, **asked, **beyond})
        if given := {*asked, *beyond} - _PER_CALL:
            raise BadInput(
                f"{', '.join(sorted(given))} cannot be chosen for one call",
                fix=f"a call takes {', '.join(sorted(_PER_CALL))}; for others make a new Curvature",
            )
        if filled["basis"].get("place") == "disk":
            raise BadInput(
                "a basis on disk needs a step's folder", fix="leave it in memory, or use a manifest"
            )
        settings = Settings.from_params(filled)
        self._asked = asked
        with self._ready() as (parameters, operator):
            if self._facts is None:
                self._facts = operator.facts()
            request = settings.request(parameters.size, parameters.dtype, parameters.device)
            known = self._spectrum
            if known is None or self._request is None or not _covers(self._request, known, request):
                known = self._spectrum = None
                self._request, self._results, self._density = request, {}, False
            try:
                found = measure_curvature(
                    operator,
                    Probes(
                        self._streams, parameters.names, parameters.sizes, parameters.dtype, parameters.device
                    ),
                    settings,
                    purpose=_PURPOSE,
                    report=self._report,
                    make_basis=self._session.make_basis(),
                    known=known,
                    results=self._results,
                )
            finally:
                operator.release()
            self._spectrum = found.spectrum
            return found

    def _beyond_spectrum(self, others: dict[str, Any], **part: dict[str, Any]) -> Result:
        """Measure one part more, and leave out what is known without it; only the part costs products."""
        found = self._measured(self._asked, {**others, **part})
        plain = self._measured(self._asked, {**others, **dict.fromkeys(part, False)})
        return self._result(found, frozenset(q.quantity for q in plain.quantities))

    def _result(self, found: Measurement, left_out: frozenset[str]) -> Result:
        facts, settings, operator = self._facts, self._settings, self._session.operator
        assert facts is not None and operator is not None  # a measurement sets both
        matrix, batches = MATRIX[settings.operator], len(facts.batch_losses)
        return Result(
            title=f"{matrix} of a mean loss of {facts.loss:.6g} by {operator.size:,} parameters; "
            f"{facts.weight:g} samples in {batches} {'batch' if batches == 1 else 'batches'}",
            matrix=matrix,
            quantities=tuple(q for q in found.quantities if q.quantity not in left_out),
            facts={
                "operator": settings.operator,
                "loss": facts.loss,
                "gradient_norm": facts.gradient_norm,
                "samples": facts.weight,
                "num_parameters": operator.size,
                "parameter_filter": " ".join(settings.parameters),
                "dtype": str(settings.dtype or operator.dtype),
                "device": str(operator.device),
                "seed": self._streams.seed,
                "num_matvecs": operator.num_matvecs,
                "products": "; ".join(self._session.notes) or "exact",
                "torch": torch.__version__,
            },
            spectrum=tuple(spectrum_rows(_PURPOSE, found)),
            density=tuple(density_rows(_PURPOSE, found)),
        )
