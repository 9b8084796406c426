"""The hook that offers the target; torch is imported when one is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atlas.contracts import LossTerm, Progress, TargetSource
from atlas.hookspecs import hookimpl

if TYPE_CHECKING:
    from atlas_newcomer_name.target import Line


class LineSource:
    """Opens linear models."""

    def fetch(self, params: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Return the parameters: nothing has to be brought here."""
        return params

    def open(
        self, params: Mapping[str, Any], *, threads: int, loss_terms: Mapping[str, LossTerm] | None = None
    ) -> Line:
        """Open the model at the slope that the parameters name."""
        import torch

        from atlas_newcomer_name.target import Line

        torch.set_num_threads(threads)
        return Line(params["slope"])


@hookimpl
def atlas_targets() -> Mapping[str, TargetSource]:
    """Offer the source under the name that the card gives it."""
    return {"newcomer-name": LineSource()}
