"""Which algorithm estimates a measurement's trace, as its settings say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from atlas_pyhessian.deflation import Deflation, TraceSample
from atlas_pyhessian.epperly2024xtrace import xtrace
from atlas_pyhessian.hutchinson1989trace import TraceEstimate, trace
from atlas_pyhessian.meyer2021hutchplusplus import hutch_plus_plus
from atlas_pyhessian.recall import Recall
from atlas_pyhessian.restarts import MakeBasis
from atlas_pyhessian.settings import TraceSettings

__all__ = ["estimate_trace"]

_SKETCHES: Mapping[str, Callable[..., TraceEstimate]] = {"xtrace": xtrace, "hutch++": hutch_plus_plus}


def estimate_trace(
    recall: Recall,
    draw: Callable[[int], torch.Tensor],
    settings: TraceSettings,
    deflation: Deflation,
    *,
    given: Sequence[TraceSample],
    make_basis: MakeBasis,
    report: Callable[[str, int, float], None],
) -> TraceEstimate:
    """Estimate the trace with the method asked for.

    A sketch that is interrupted begins anew; probes that only the Ritz basis deflates are kept one by one.

    Args:
        recall: Has what an interrupted attempt paid for; its operator is the matrix.
        draw: Returns Rademacher probe number i, `[n]`, which the next call may overwrite.
        settings: Method, error asked for, and products allowed.
        deflation: The Ritz basis.
        given: Samples of the first probes from the density's products; a sketch cannot use them.
        make_basis: Makes the basis of a sketch.
        report: Told what is being done, products so far, and the relative standard error.
    """

    def told(count: int, error: float) -> None:
        report("trace", recall.operator.num_matvecs, error)

    if settings.method == "deflated":
        return trace(
            recall.operator,
            draw,
            rel_se=settings.rel_se,
            max_probes=max(settings.max_probes, len(given)),
            deflation=deflation,
            given=given,
            recall=recall,
            report=told,
        )
    sketch = partial(
        _SKETCHES[settings.method],
        recall.operator,
        draw,
        rel_se=settings.rel_se,
        max_products=settings.max_probes,
        spectrum=deflation.spectrum,
        make_basis=make_basis,
        report=told,
    )
    name = f"trace by {settings.method}, {settings.rel_se}, {settings.max_probes}"
    return recall(name, TraceEstimate, sketch)
