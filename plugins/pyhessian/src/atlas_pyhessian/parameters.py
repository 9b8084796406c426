"""Which parameters a loss is differentiated by, and where each lies in one flat vector."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from attrs import frozen

from atlas.errors import BadInput

__all__ = ["Parameters", "select_parameters"]


@frozen
class Parameters:
    """Distinct parameters in the module's order; a tied weight appears once, under its first name.

    Attributes:
        names: Qualified names.
        tensors: The parameters themselves.
    """

    names: tuple[str, ...]
    tensors: tuple[torch.nn.Parameter, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each parameter."""
        return tuple(tensor.numel() for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Length n of the flat vector."""
        return sum(self.sizes)

    @property
    def dtype(self) -> torch.dtype:
        """The one dtype of all of them."""
        return self.tensors[0].dtype

    @property
    def device(self) -> torch.device:
        """The one device of all of them."""
        return self.tensors[0].device

    def views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Return the pieces of a flat vector `[n]`, each a view in its parameter's shape."""
        pieces = torch.split(flat, list(self.sizes))
        return [piece.view_as(t) for piece, t in zip(pieces, self.tensors, strict=True)]

    def first_non_finite(self, flat: torch.Tensor) -> str | None:
        """Return the name of the first parameter with a NaN or infinity in a flat vector, if any."""
        for name, piece in zip(self.names, self.views(flat), strict=True):
            if not bool(torch.isfinite(piece).all()):
                return name
        return None


def select_parameters(module: torch.nn.Module, include: Sequence[str] = ("*",)) -> Parameters:
    """Return the floating-point parameters whose name matches one of the glob patterns.

    Raises:
        BadInput: A pattern matches nothing, or the matched parameters differ in dtype or device.
    """
    named = [(n, p) for n, p in module.named_parameters() if p.is_floating_point()]
    for pattern in include:
        if not any(fnmatchcase(name, pattern) for name, _ in named):
            shown = ", ".join(name for name, _ in named[:6]) or "it has none"
            raise BadInput(
                f"the parameter filter {pattern!r} matches no parameter of the module",
                fix=f"write a glob over its {len(named)} parameter names, such as {shown}",
            )
    chosen = [(n, p) for n, p in named if any(fnmatchcase(n, pattern) for pattern in include)]
    kinds = {(str(p.dtype), str(p.device)) for _, p in chosen}
    if len(kinds) > 1:
        raise BadInput(
            "the selected parameters differ in dtype or device: "
            + ", ".join(" on ".join(kind) for kind in sorted(kinds)),
            fix="set `dtype`, or load the target on one device",
        )
    names, tensors = zip(*chosen, strict=True)
    return Parameters(names, tensors)
