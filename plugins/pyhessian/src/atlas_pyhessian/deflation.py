"""What a random probe says of a matrix once its Ritz basis is taken out: unbiased, converged or not.

V = [C, U] is orthonormal, made of Ritz vectors: V^T H V = Theta, diagonal, whatever the residuals are. C
are the first `count` vectors, U the others, P = I - V V^T, and K = (I - C C^T) H (I - C C^T). A probe z
of independent signs is cleared of C and multiplied once: x = (I - C C^T) z, y = H x. With c = V^T z,
t = V^T y and the part after C marked by U, all that follows comes from that one product:

- trace: `z^T P H P z = x.y - 2 c_U.t_U + c_U.Theta_U c_U`, whose mean is tr(P H P) = tr(H) - tr(Theta).
- Frobenius norm: ||H||_F^2 = |Theta|^2 + 2 ||P H V||_F^2 + ||P H P||_F^2. The mean of
  `|P y|^2 + 2 |t_C|^2 + |t_U - Theta_U c_U|^2` is ||H||_F^2 - |Theta|^2: t_U - Theta_U c_U is U^T H P z,
  and the cross terms vanish since P and U are orthogonal. Nothing rests on a residual being small.
- by segment b of the vector: with s = y - U Theta_U c_U, the mean of `x_b.s_b` plus
  `sum_U theta_j |u_jb|^2` is tr_b(H (I - C C^T)), since x.(U Theta_U c_U) has that known mean; the
  explicit products of the verifying step give tr_b(H C C^T). The mean of `|y_b|^2` is what is left of
  the squared Frobenius norm of the segment's rows after theirs. The segments' traces sum to an unbiased
  estimate of the trace, though not to the one above, which scatters less and cannot be cut up.

U is thus taken out after the product where C was taken out before it: C alone can then serve a density,
where a vector that is no eigenvector would do harm, at no product more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen

from atlas_pyhessian import reductions
from atlas_pyhessian.spectrum import Spectrum

__all__ = ["Deflation", "SegmentsKnown", "TraceSample"]


@frozen
class TraceSample:
    """One probe's contributions.

    Attributes:
        index: Number of the probe.
        quadratic_form: Mean tr(P H P).
        squared_length: Mean ||H||_F^2 less the sum of the squared Ritz values.
        segment_forms: By segment, mean tr_b(H (I - C C^T)); empty unless asked for.
        segment_squares: By segment, mean ||(H (I - C C^T))_b||_F^2.
    """

    index: int
    quadratic_form: float
    squared_length: float
    segment_forms: tuple[float, ...] = ()
    segment_squares: tuple[float, ...] = ()


@frozen
class SegmentsKnown:
    """By segment, what the basis holds of the trace, and of the squared Frobenius norm of the rows."""

    forms: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()


@frozen
class Deflation:
    """A Ritz basis to be taken out of probes; without one, nothing is.

    Attributes:
        spectrum: The basis, independent of the probes.
        count: Vectors taken out before the product; the others are taken out after it.
        segments: Lengths of consecutive pieces by which to sum; empty for none.
        known: What the basis holds of each segment.
    """

    spectrum: Spectrum | None
    count: int
    segments: tuple[int, ...] = ()
    known: SegmentsKnown = SegmentsKnown()

    @classmethod
    def whole(cls, spectrum: Spectrum | None) -> Deflation:
        """Take all of the basis out before the product."""
        return cls(spectrum, len(spectrum.basis) if spectrum is not None else 0)

    @classmethod
    def of_eigenvectors(cls, spectrum: Spectrum | None, segments: Sequence[int] = ()) -> Deflation:
        """Take out before the product what is known to be eigenvectors, and the rest after it.

        Args:
            spectrum: The basis, solved with the same segments.
            segments: Lengths of the pieces to sum by.
        """
        count = spectrum.num_eigenvectors if spectrum is not None else 0
        return cls(spectrum, count, tuple(segments), _known_by_segment(spectrum, segments))

    @property
    def ritz_values(self) -> tuple[float, ...]:
        """All values that are taken out of trace and Frobenius norm."""
        return self.spectrum.ritz_values if self.spectrum is not None else ()

    def clear(self, vector: torch.Tensor) -> torch.Tensor:
        """Take the leading vectors out of `vector` `[n]` in place; return V^T of what it was, `[m]`."""
        if self.spectrum is None:
            return torch.zeros(0, dtype=torch.float64)
        coefficients = self.spectrum.basis.project(vector)
        self.spectrum.basis.subtract(vector, coefficients[: self.count])
        return coefficients

    def clear_again(self, vector: torch.Tensor) -> None:
        """Take the leading vectors out of a product `[n]`, in place, with a probe that was cleared."""
        if self.spectrum is not None and self.count:
            coefficients = self.spectrum.basis.project(vector, self.count)
            self.spectrum.basis.subtract(vector, coefficients)

    def sample(
        self,
        index: int,
        cleared: torch.Tensor,
        product: torch.Tensor,
        coefficients: torch.Tensor,
        scale: float = 1.0,
    ) -> TraceSample:
        """Return what a probe contributes.

        Args:
            index: Number of the probe.
            cleared: The probe as `clear` left it, over `scale`, `[n]`.
            product: H times `cleared`, `[n]`; changed within the call and put back to rounding.
            coefficients: What `clear` returned.
            scale: Length that the cleared probe was divided by.
        """
        form = reductions.dot(cleared, product)
        square = reductions.dot(product, product)
        forms: tuple[float, ...] = ()
        squares: tuple[float, ...] = ()
        later = torch.zeros(0)
        if self.spectrum is not None:
            inner, inside = coefficients / scale, self.spectrum.basis.project(product)
            later = torch.tensor(self.ritz_values, dtype=torch.float64)
            later[: self.count] = 0.0
            later = later * inner
            outer, after = inner[self.count :], inside[self.count :]
            form += float((later * inner).sum() - 2 * outer @ after)
            square += float(inside[: self.count].square().sum() - after.square().sum())
            square += float((after - later[self.count :]).square().sum())
        if self.segments:
            squares = reductions.segment_dots(product, product, self.segments)
            if self.spectrum is not None and bool(later.any()):
                self.spectrum.basis.subtract(product, later)
            forms = reductions.segment_dots(cleared, product, self.segments)
            if self.spectrum is not None and bool(later.any()):
                self.spectrum.basis.subtract(product, -later)
        area = scale * scale
        return TraceSample(
            index,
            area * form,
            area * square,
            tuple(area * value for value in forms),
            tuple(area * value for value in squares),
        )


def _known_by_segment(spectrum: Spectrum | None, segments: Sequence[int]) -> SegmentsKnown:
    if spectrum is None or not segments:
        return SegmentsKnown((0.0,) * len(segments), (0.0,) * len(segments))
    forms = torch.zeros(len(segments), dtype=torch.float64)
    squares = torch.zeros(len(segments), dtype=torch.float64)
    for image in spectrum.images:
        forms += torch.tensor(image.forms, dtype=torch.float64)
        squares += torch.tensor(image.squares, dtype=torch.float64)
    vector: torch.Tensor | None = None
    for index in range(spectrum.num_verified, len(spectrum.basis)):
        value = spectrum.ritz_values[index]
        vector = spectrum.basis.vector(index, out=vector)
        lengths = torch.tensor(reductions.segment_dots(vector, vector, segments), dtype=torch.float64)
        forms += value * lengths
        if index < spectrum.num_eigenvectors:
            squares += value**2 * lengths
    return SegmentsKnown(tuple(forms.tolist()), tuple(squares.tolist()))
