"""All that the numbers of a step depend on, down to weights and code: what kept states are compared by."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from atlas.contracts import StepContext, Target
from atlas_pyhessian.parameters import Parameters

__all__ = ["identity"]

_LIBRARIES = ("torch", "numpy", "scipy", "transformers")


def identity(context: StepContext, target: Target, parameters: Parameters) -> dict[str, Any]:
    """Return what must be equal for two attempts to give the same bits.

    Args:
        context: The step.
        target: Its target, opened.
        parameters: Those that it is differentiated by, prepared.
    """
    return {
        "step": context.step,
        "params": dict(context.params),
        "max_tokens": context.max_tokens,
        "seed": context.random.seed,
        "target": dict(target.facts),
        "weights": _weights(target.module),
        "parameters": [[n, list(t.shape)] for n, t in zip(parameters.names, parameters.tensors, strict=True)],
        "dtype": str(parameters.dtype),
        "threads": torch.get_num_threads(),
        "machine": _machine(parameters.device),
        "libraries": {name: str(sys.modules[name].__version__) for name in _LIBRARIES if name in sys.modules},
        "code": _code(),
    }


def _weights(module: torch.nn.Module) -> str:
    """Return a digest of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _machine(device: torch.device) -> list[str]:
    facts = [
        sys.version,
        platform.machine(),
        platform.processor(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_float32_matmul_precision(),
        str(device),
    ]
    if device.type == "cuda":
        facts += [torch.cuda.get_device_name(device), str(torch.backends.cuda.matmul.allow_tf32)]
    return facts


def _code() -> str:
    """Return a digest of this package's own source."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
