"""The target source `topoencoder`: from a checkpoint to a model whose loss has a curvature."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.contracts import LossTerm, Progress
from atlas.errors import BadInput

if TYPE_CHECKING:
    from atlas_topoencoder.target import TrainedTarget

__all__ = ["TopoEncoderSource"]

_DEFAULT_LOSS = {"reconstruction": 1.0}


class TopoEncoderSource:
    """Opens checkpoints of the instrument `topoencoder`."""

    def fetch(self, params: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Return the parameters: a checkpoint lies on this machine."""
        return params

    def open(
        self, params: Mapping[str, Any], *, threads: int, loss_terms: Mapping[str, LossTerm] | None = None
    ) -> TrainedTarget:
        """Open the target; `loss_terms` may be of other plugins, as long as they read our outputs.

        Raises:
            BadInput: The checkpoint is damaged or of another size than its data.
        """
        import torch

        from atlas.objective import Objective
        from atlas.randomness import RandomStreams
        from atlas_topoencoder.checkpoint import load_checkpoint
        from atlas_topoencoder.data import load
        from atlas_topoencoder.losses.terms import TERMS
        from atlas_topoencoder.target import TrainedTarget

        torch.set_num_threads(threads)
        path = Path(params["path"])
        checkpoint = load_checkpoint(path)
        scratch = tempfile.TemporaryDirectory(prefix="atlas-topoencoder-")
        dataset = load(params["data"], random=RandomStreams(0), scratch=Path(scratch.name))
        wanted = checkpoint.model.architecture.shape
        if dataset.shape != wanted:
            raise BadInput(
                f"examples have the shape {list(dataset.shape)}, and the checkpoint reads {list(wanted)}",
                where=str(path),
                fix="name the data that the checkpoint was trained on",
            )
        weights = params.get("loss") or _DEFAULT_LOSS
        known = {**TERMS, **(loss_terms or {})}
        objective = Objective([known[name] for name in weights if name in known], weights)
        return TrainedTarget(checkpoint, dataset, objective, scratch)
