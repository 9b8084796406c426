"""Trace and Frobenius norm tensor by tensor, from the probes that gave the whole trace.

The estimators are those of `deflation`; each segment's error is its own scatter between probes.
"""

from __future__ import annotations

from attrs import frozen

from atlas_pyhessian.deflation import Deflation
from atlas_pyhessian.hutchinson1989trace import Estimate, TraceEstimate, mean_estimate

__all__ = ["SegmentTrace", "by_segment"]


@frozen
class SegmentTrace:
    """One segment of the vector of parameters.

    Attributes:
        trace: Of the diagonal block, the sum of the diagonal's entries in the segment.
        frobenius_squared: Squared Frobenius norm of the segment's rows of the whole matrix.
        share: Their part of the squared Frobenius norm of all rows.
    """

    trace: Estimate
    frobenius_squared: Estimate
    share: float


def by_segment(estimate: TraceEstimate, deflation: Deflation) -> tuple[SegmentTrace, ...]:
    """Return every segment's trace.

    Args:
        estimate: The trace, its samples summed by segment.
        deflation: What was taken out of them, with the segments' lengths.
    """
    samples, known = estimate.samples, deflation.known
    found = []
    for b in range(len(deflation.segments)):
        trace = mean_estimate(
            [sample.segment_forms[b] for sample in samples], known.forms[b], degrees=estimate.degrees
        )
        squares = mean_estimate(
            [sample.segment_squares[b] for sample in samples], known.squares[b], degrees=estimate.degrees
        )
        found.append((trace, squares))
    whole = sum(squares.value for _, squares in found)
    return tuple(
        SegmentTrace(trace, squares, squares.value / whole if whole else 0.0) for trace, squares in found
    )
