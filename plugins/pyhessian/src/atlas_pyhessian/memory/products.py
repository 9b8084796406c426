"""How many products a measurement will take: a rule over what was measured, with its range.

For w wanted eigenvalues, ends included, the Lanczos iteration was seen to take between 2.3 w (three of a
trained language model) and 7 w products (five of a random one, whose spectrum is symmetric), 3.5 w on most;
a fresh start takes 8 at least. The first product is repeated, and where the basis is rounded to float16
each pair is verified by one more.
"""

from __future__ import annotations

import torch
from attrs import frozen

from atlas_pyhessian.hutchinson1989trace import MIN_PROBES
from atlas_pyhessian.settings import Settings, TraceSettings

__all__ = ["Products", "expected_products"]

_USUAL, _FEWEST, _MOST = 3.5, 2.3, 7.0
_FRESH_USUAL, _FRESH_FEWEST, _FRESH_MOST = 10, 8, 24
_REPEATED = 2


@frozen
class Products:
    """A number of products and the range in which it may end up."""

    expected: int
    fewest: int
    most: int

    def __str__(self) -> str:
        """Render as `40 (30 to 80)`."""
        return f"{self.expected} ({self.fewest} to {self.most})"

    def plus(self, other: Products) -> Products:
        """Return the sum."""
        return Products(self.expected + other.expected, self.fewest + other.fewest, self.most + other.most)


def expected_products(settings: Settings, size: int, *, num_blocks: int = 0) -> Products:
    """Return the products for one slice.

    Args:
        settings: What is asked.
        size: Dimension n.
        num_blocks: Diagonal blocks measured besides.
    """
    total = _spectrum(settings, size)
    samples = 0
    if settings.density is not None:
        samples = settings.density.probes
        steps = min(settings.density.steps, size) * samples
        total = total.plus(Products(steps, samples, steps))
    if settings.trace is not None:
        total = total.plus(_trace(settings.trace, samples))
    if settings.blocks is not None:
        block = expected_products(settings.blocks.applied_to(settings), size)
        for _ in range(num_blocks):
            total = total.plus(block)
    along = len(settings.along)
    return total.plus(Products(along, along, along))


def _spectrum(settings: Settings, size: int) -> Products:
    wanted = min(size, settings.top_k + settings.ends)
    verifying = wanted if settings.request(size, torch.float32).storage is torch.float16 else 0

    def products(each: float, fresh: int) -> int:
        lanczos = min(size, round(each * wanted) + fresh * settings.fresh_starts)
        return _REPEATED + min(settings.max_matvecs, lanczos + verifying)

    return Products(
        products(_USUAL, _FRESH_USUAL), products(_FEWEST, _FRESH_FEWEST), products(_MOST, _FRESH_MOST)
    )


def _trace(trace: TraceSettings, samples: int) -> Products:
    most = max(trace.max_probes, samples)
    fewest = min(most, MIN_PROBES) if trace.rel_se is not None else most
    paid = samples if trace.method == "deflated" else 0
    return Products(most - paid, max(0, fewest - paid), most - paid)
