"""Quantities that are means over held-out trajectories."""

from __future__ import annotations

from atlas.quantities import Quantity, UncertaintyKind

__all__ = ["held_out_quantity"]


def held_out_quantity(
    name: str, value: float, error: float | None, samples: int, what: str | None = None
) -> Quantity:
    """Return a quantity of one training, with its standard error over trajectories.

    Args:
        name: Of the quantity.
        value: Its value.
        error: Over the trajectories; None where there is only one.
        samples: How many trajectories, or windows of them.
        what: Is said before where the error comes from; None for nothing.
    """
    known = error is not None
    source = "error over held-out trajectories, of one training" if known else "of one held-out trajectory"
    return Quantity(
        name,
        value,
        error,
        UncertaintyKind.STANDARD_ERROR if known else UncertaintyKind.UNCERTIFIED,
        num_samples=samples,
        note=source if what is None else f"{what}; {source}",
    )
