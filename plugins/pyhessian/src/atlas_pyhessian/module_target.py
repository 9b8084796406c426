"""Any module, a loss and batches of data, as the operators see them: summed losses with weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy

from atlas.contracts import Batch
from atlas.errors import BadInput

__all__ = ["ModuleTarget"]

_NOT_SCORED = -100
"""Integer target that neither torch's cross-entropy nor transformers' losses count."""

_FORMS = (
    "give batches of the form (inputs, targets), or dicts of the module's arguments; "
    "a DataLoader, a list or a generator of them"
)


def _batches_of(data: Any) -> list[Any]:
    """Return the batches in order; one (inputs, targets) pair of tensors or one dict is a batch itself."""
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    if isinstance(data, Mapping) or (pair and all(isinstance(part, torch.Tensor) for part in data)):
        return [data]
    if not isinstance(data, Iterable) or isinstance(data, (torch.Tensor, str)):
        raise BadInput(f"data of type {type(data).__name__} holds no batches", fix=_FORMS)
    return list(data)


def _first_tensor(tree: Any) -> torch.Tensor | None:
    if isinstance(tree, torch.Tensor):
        return tree
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, (tuple, list)) else ()
    return next((found for part in parts if (found := _first_tensor(part)) is not None), None)


def _leading(*trees: Any) -> float:
    """Return the leading dimension of the first tensor that has one: the number of samples."""
    for tree in trees:
        tensor = _first_tensor(tree)
        if tensor is not None and tensor.dim() > 0:
            return float(tensor.shape[0])
    raise BadInput(
        "a batch holds no tensor with a leading dimension", fix="give `weight`, or batched tensors"
    )


def _count(targets: Any, inputs: Any, loss: Any) -> float:
    """Return what a mean loss over a batch was divided by: its samples, or its scored integer targets."""
    if not isinstance(targets, torch.Tensor) or targets.dim() == 0:
        return _leading(targets, inputs)
    if targets.is_floating_point() or targets.is_complex() or targets.dtype is torch.bool:
        return float(targets.shape[0])
    scored = targets[targets != getattr(loss, "ignore_index", _NOT_SCORED)]
    by_class = getattr(loss, "weight", None)
    if isinstance(loss, (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss)) and by_class is not None:
        return float(by_class.detach().cpu().double()[scored.cpu()].sum())
    return float(scored.numel())


def _integers(targets: Any) -> bool:
    return isinstance(targets, torch.Tensor) and targets.dim() > 0 and not targets.is_floating_point()


def _loss_of(outputs: Any) -> torch.Tensor:
    loss = getattr(outputs, "loss", None)
    if not isinstance(loss, torch.Tensor):
        raise BadInput(
            "the module returns no loss of its own",
            fix="give a loss, or put the labels into the batches",
        )
    return loss


def _mean_entropy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean cross-entropy of scored labels, infinite where the shapes do not go together."""
    if scores.shape[:-1] != labels.shape:
        return math.inf
    return float(cross_entropy(scores.flatten(0, -2).float(), labels.flatten(), ignore_index=_NOT_SCORED))


def _tensor_of(outputs: Any) -> torch.Tensor:
    found = outputs if isinstance(outputs, torch.Tensor) else getattr(outputs, "logits", None)
    if not isinstance(found, torch.Tensor):
        raise BadInput(
            f"the module returns {type(outputs).__name__}, which is no tensor and has no `logits`",
            fix="wrap the module so that it returns the tensor that the loss is computed from",
        )
    return found


class ModuleTarget:
    """A module's loss over batches that were read once, at construction, and are kept where they lie.

    Args:
        module: Any module.
        loss: Takes the module's outputs and the targets (the whole batch where it is a dict) and returns
            a scalar; None takes `.loss` of what the module itself returns.
        data: An iterable of `(inputs, targets)`, inputs being a tensor, a tuple or a dict of arguments, or
            of dicts of arguments. Read once. A batch in which nothing is scored is left out.
        reduction: Whether a loss is a mean over its batch or a sum; None reads `loss.reduction` and else
            takes it for a mean.
        weight: Returns what a batch's mean was divided by, a sum's samples; None counts integer targets
            that are scored, else samples.
        sample_dims: Leading dimensions of the outputs that count samples; None for one, or for all but the
            last where the module computes the loss.

    Raises:
        BadInput: The data are empty or of no known form, or the reduction is contradicted.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        loss: Callable[[Any, Any], torch.Tensor] | None,
        data: Iterable[Any],
        *,
        reduction: Literal["mean", "sum"] | None,
        weight: Callable[[Any], float] | None,
        sample_dims: int | None,
    ) -> None:
        self.module = module
        self._loss = loss
        self._sample_dims = sample_dims
        self._dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
        own = getattr(loss, "reduction", None)
        if own not in (None, "mean", "sum") or (reduction and own and reduction != own):
            raise BadInput(
                f"the loss has reduction {own!r}" + (f", not {reduction!r}" if reduction else ""),
                fix='use a loss with reduction "mean" or "sum"',
            )
        self._mean = (reduction or own or "mean") == "mean"
        raw = _batches_of(data)
        if not raw:
            raise BadInput("the data hold no batch; a generator can be read only once", fix=_FORMS)
        trees = [self._normal(batch) for batch in raw]
        weights = [float(weight(batch)) for batch in raw] if weight is not None else self._weights(trees)
        self.batches: tuple[Batch, ...] = tuple(
            Batch(tree, count) for tree, count in zip(trees, weights, strict=True) if count > 0
        )
        if not self.batches:
            raise BadInput("the data hold no scored target", fix="give targets that are not all ignored")

    def _normal(self, batch: Any) -> dict[str, Any]:
        """Return a batch as the module's positional and named arguments and what the loss gets."""
        if isinstance(batch, Mapping):
            return {"arguments": (), "named": dict(batch), "targets": dict(batch)}
        if self._loss is None:
            raise BadInput(
                f"a batch of type {type(batch).__name__} is given without a loss",
                fix="give a loss, or dicts with the labels from which the module computes its own",
            )
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            length = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
            raise BadInput(f"a batch is a {type(batch).__name__}{length}", fix=_FORMS)
        inputs, targets = batch
        if isinstance(inputs, Mapping):
            return {"arguments": (), "named": dict(inputs), "targets": targets}
        several = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        return {"arguments": several, "named": {}, "targets": targets}

    def _weights(self, trees: Sequence[dict[str, Any]]) -> list[float]:
        targets: list[Any] = [
            t["targets"].get("labels") if isinstance(t["targets"], dict) else t["targets"] for t in trees
        ]
        counts = [_count(wanted, tree, self._loss) for wanted, tree in zip(targets, trees, strict=True)]
        if self._loss is not None or not all(_integers(wanted) for wanted in targets):
            return counts
        shifted = [
            _count(wanted[..., 1:], tree, None) if wanted.dim() > 1 else count
            for wanted, tree, count in zip(targets, trees, counts, strict=True)
        ]
        return shifted if self._is_shifted(trees[0], required=len(trees) > 1) else counts

    def _is_shifted(self, tree: dict[str, Any], *, required: bool) -> bool:
        """Say whether the module's loss is the mean over the labels but the first of each row.

        Causal models shift the labels by one; that they do shows in the loss itself.
        """
        placed = self._placed(tree)
        labels = placed["targets"]["labels"]
        training = [(part, part.training) for part in self.module.modules()]
        try:
            self.module.eval()
            with torch.no_grad():
                outputs = self.module(**placed["named"])
        finally:
            for part, was in training:
                part.training = was
        scores, value = _tensor_of(outputs), float(_loss_of(outputs))
        gaps = {False: abs(_mean_entropy(scores, labels) - value)}
        if labels.dim() > 1:
            gaps[True] = abs(_mean_entropy(scores[:, :-1], labels[:, 1:]) - value)
        nearest = min(gaps, key=lambda shift: gaps[shift])
        if gaps[nearest] <= max(1e-5, 8 * torch.finfo(scores.dtype).eps) * abs(value):
            return nearest
        if required:
            raise BadInput(
                "the module's loss is no plain mean over its labels, so that it is unknown how batches weigh",
                fix="give `weight`, a function of a batch that returns what its mean loss was divided by",
            )
        return False

    def _placed(self, tree: Any) -> Any:
        """Return a batch on the module's device, and in its dtype where it came in the module's first one."""
        if isinstance(tree, torch.Tensor):
            home = next(self.module.parameters())
            dtype = home.dtype if tree.is_floating_point() and tree.dtype is self._dtype else tree.dtype
            return tree.to(device=home.device, dtype=dtype)
        if isinstance(tree, Mapping):
            return {name: self._placed(part) for name, part in tree.items()}
        if isinstance(tree, (tuple, list)):
            parts = [self._placed(part) for part in tree]
            return parts if isinstance(tree, list) else tuple(parts)
        return tree

    def _call(self, batch: Batch) -> tuple[Any, torch.Tensor]:
        """Return what the module returns, and the loss summed over the batch."""
        tree = self._placed(dict(batch.inputs))
        outputs = self.module(*tree["arguments"], **tree["named"])
        loss = _loss_of(outputs) if self._loss is None else self._loss(outputs, tree["targets"])
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            found = f"has shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else "is no tensor"
            raise BadInput(
                f"the loss {found}, and a scalar is needed", fix='reduce it: reduction="mean" or "sum"'
            )
        loss = loss.reshape(())
        return outputs, loss * batch.weight if self._mean else loss

    @cached_property
    def sample_dims(self) -> int:
        """Leading dimensions of the outputs that count samples."""
        if self._sample_dims is not None or self._loss is not None:
            return self._sample_dims or 1
        with torch.no_grad():
            return max(1, _tensor_of(self._call(self.batches[0])[0]).dim() - 1)

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Return the loss summed over the batch, a scalar with a graph."""
        return self._call(batch)[1]

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the outputs and the summed loss in one graph."""
        outputs, loss = self._call(batch)
        return _tensor_of(outputs), loss
