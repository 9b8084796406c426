"""Casts inside a forward pass: which of its arithmetic is narrower than the model's dtype.

Several architectures compute norms and softmax in float32 whatever their weights are in, so that a
float64 model has float32 rounding in its loss; the record says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["casts_watched", "narrower_inside"]


@contextmanager
def casts_watched(dtype: torch.dtype) -> Iterator[set[str]]:
    """Collect the names of the dtypes, narrower than `dtype`, to which tensors of `dtype` are cast."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    narrower: set[str] = set()

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves its hook untyped
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default and args[0].dtype == dtype:
                cast = result.dtype
                if cast.is_floating_point and cast.itemsize < dtype.itemsize:
                    narrower.add(str(cast).removeprefix("torch."))
            return result

    with Watch():  # type: ignore[no-untyped-call]
        yield narrower


def narrower_inside(module: torch.nn.Module) -> str:
    """Run a module of transformers on two tokens, and name the narrower dtypes inside, or `none`."""
    import torch

    parameter = next(module.parameters())
    probe = torch.tensor([[0, 1]], device=parameter.device)
    with torch.no_grad(), casts_watched(parameter.dtype) as narrower:
        module(input_ids=probe, attention_mask=torch.ones_like(probe))
    return ", ".join(sorted(narrower)) or "none"
