"""Random draws that depend on nothing but (seed, purpose, index).

Philox is counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), so a
stream is found from its key alone: neither the device, nor the order of draws elsewhere, nor another
library's use of its global generator can change it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    import numpy as np

__all__ = ["RandomStreams", "derive_seed"]


@frozen
class RandomStreams:
    """A family of independent generators under one seed."""

    seed: int

    def generator(self, purpose: str, index: int = 0, name: str = "") -> np.random.Generator:
        """Return a fresh generator; the same arguments always give the same draws.

        Args:
            purpose: What the draws are for, `trace probe`.
            index: Which of them: probe 0, 1, 2.
            name: Part of the draw, such as a parameter's name, so that parts can be drawn apart.
        """
        import numpy as np

        text = f"atlas-random-1\0{self.seed}\0{purpose}\0{index}\0{name}"
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        return np.random.Generator(np.random.Philox(key=key))


def derive_seed(seed: int, head: str) -> int:
    """Bind a declared seed to a journal head: a 63-bit seed that could not be known before it."""
    digest = hashlib.sha256(f"atlas-seed-1\0{seed}\0{head}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
