"""The state that a module must be in for a second derivative, put back afterwards.

While prepared, the module is in evaluation mode, attention is eager (the fused kernels have no double
backward), only the chosen parameters require a gradient, and no `.grad` is set. On leaving, training
flags, attention, dtype, `requires_grad` and `.grad` are as they were found, whatever happened between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from atlas.errors import BadInput
from atlas_pyhessian.parameters import Parameters, select_parameters

__all__ = ["prepared"]

_ATTENTION = "_attn_implementation"


def _attention_configs(module: torch.nn.Module) -> list[Any]:
    """Return the distinct configuration objects that choose an attention implementation."""
    configs = {}
    for part in module.modules():
        config = getattr(part, "config", None)
        if getattr(config, _ATTENTION, None) is not None:
            configs[id(config)] = config
    return list(configs.values())


def _force_eager(configs: Sequence[Any]) -> None:
    for config in configs:
        setattr(config, _ATTENTION, "eager")
        observed = getattr(config, _ATTENTION)
        if observed != "eager":
            raise BadInput(
                f"{type(config).__name__} keeps the attention implementation {observed!r}, "
                "which has no double backward",
                fix='open the target with attn_implementation="eager"',
            )


@contextmanager
def prepared(
    module: torch.nn.Module, *, include: Sequence[str] = ("*",), dtype: torch.dtype | None = None
) -> Iterator[Parameters]:
    """Prepare a module and yield its chosen parameters.

    Args:
        module: Any module; only its state is touched, never its code.
        include: Glob patterns on parameter names.
        dtype: Precision to work in, at least the module's own, which widening keeps exactly.

    Raises:
        BadInput: The filter matches nothing, attention cannot be made eager, or `dtype` is narrower
            than the module's.
    """
    training = [(part, part.training) for part in module.modules()]
    tensors = [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]
    widths = [(tensor, tensor.dtype) for tensor in tensors if tensor.is_floating_point()]
    flags = [(p, p.requires_grad, p.grad) for p in module.parameters()]
    configs = _attention_configs(module)
    attention = [(config, getattr(config, _ATTENTION)) for config in configs]
    if dtype is not None:
        narrower = [was for _, was in widths if was.itemsize > dtype.itemsize]
        if narrower:
            raise BadInput(
                f"the target holds {narrower[0]} and would lose digits in {dtype}",
                fix="choose `dtype: target` or a wider one",
            )
    try:
        for parameter, _, _ in flags:
            parameter.grad = None
        if dtype is not None:
            for tensor, _ in widths:
                tensor.data = tensor.data.to(dtype)
        chosen = select_parameters(module, include)
        module.eval()
        _force_eager(configs)
        selected = {id(p) for p in chosen.tensors}
        for parameter, _, _ in flags:
            parameter.requires_grad_(id(parameter) in selected)
        yield chosen
    finally:
        for tensor, was in widths:
            if tensor.dtype is not was:
                tensor.data = tensor.data.to(was)
        for parameter, required, gradient in flags:
            parameter.requires_grad_(required)
            parameter.grad = gradient
        for part, was_training in training:
            part.training = was_training
        for config, implementation in attention:
            setattr(config, _ATTENTION, implementation)
