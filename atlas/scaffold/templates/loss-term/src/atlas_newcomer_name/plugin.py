"""The loss term, and the hook that offers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from atlas.contracts import LossTerm
from atlas.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch
    from atlas_topoencoder.outputs import ModelOutputs


def fourth_moment(outputs: ModelOutputs) -> torch.Tensor:
    """Return `mean (x' - x)^4` over examples and features, a scalar."""
    return (outputs.decoding.reconstruction - outputs.x).pow(4).mean()


@hookimpl
def atlas_loss_terms() -> Mapping[str, LossTerm]:
    """Offer the term under the name that the card gives it."""
    term = LossTerm(
        name="newcomer-name",
        slot="topoencoder",
        function=fourth_moment,
        default_weight=1.0,
        group="base",
        formula="mean (x' - x)^4",
        source="yours to name",
    )
    return {term.name: term}
