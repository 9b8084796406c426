"""How long and how fast a TopoEncoder is trained, and when its charts and codes are placed."""

from __future__ import annotations

import math

from attrs import frozen

__all__ = ["Schedule"]

_RAMP = 50
"""Steps over which the learning rate rises."""


@frozen
class Schedule:
    """How long and how fast is trained.

    Attributes:
        steps: Steps of the optimiser.
        batch_size: Examples of a step.
        learning_rate: Largest; it rises over 50 steps and falls to 0 along a cosine.
        weight_decay: Decoupled, of AdamW.
        clip: Greatest norm of the gradient.
        warmup: Steps of an autoencoder through the point before quantisation, all charts weighted alike, with
            reconstruction alone, after which charts and codes are placed.
        placing: `spectral`, `k-means`, `ward`, `labels` for a chart a class, or `none` to leave charts and
            codes as they were drawn.
        revive_every: Steps between revivals of dead codes; 0 for none. None in the last fifth.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip: float
    warmup: int
    placing: str
    revive_every: int

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        rise = min(1.0, (step + 1) / _RAMP)
        return self.learning_rate * rise * (1 + math.cos(math.pi * step / self.steps)) / 2

    def revives(self, step: int) -> bool:
        """Say whether dead codes are revived before a step."""
        since = step - self.warmup
        return (
            bool(self.revive_every)
            and since > 0
            and since % self.revive_every == 0
            and (step < 0.8 * self.steps)
        )
