"""Steps of optimisers, their state by name, and the refusal of a loss that is not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from atlas_topoencoder.devices import Device

from atlas.errors import InstrumentFailed

__all__ = ["descend", "finite", "groups_of", "optimizer_tensors", "restore_optimizer", "under"]


def groups_of(modules: Iterable[torch.nn.Module], rate: float, device: Device) -> list[dict[str, Any]]:
    """Return an optimiser's groups of parameters, one a module, each with a rate of its own."""
    return [{"params": list(module.parameters()), "lr": device.rate(rate)} for module in modules]


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor, *, clip: float) -> None:
    """Take one step down a loss.

    Args:
        optimizer: Of the parameters.
        loss: A scalar with its graph.
        clip: Greatest norm of the gradient of each group of parameters.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call] # torch's own
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], clip)
    optimizer.step()


def finite(name: str, value: float, done: int) -> float:
    """Return the value of a loss in the round after so many.

    Raises:
        InstrumentFailed: It is not finite.
    """
    if not math.isfinite(value):
        raise InstrumentFailed(
            f"the loss {name} is {value} in round {done + 1}",
            where=f"loss.{name}",
            fix="lower the learning rate, or shorten the horizon; the checkpoint before it is kept",
        )
    return value


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return all that an optimiser's next step depends on, by number of the parameter and name."""
    return {
        f"{number}.{key}": value
        for number, parameter in enumerate(p for g in optimizer.param_groups for p in g["params"])
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    kept: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        kept.setdefault(int(number), {})[key] = value.clone()
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})


def under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin so, by the rest of their names."""
    return {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
