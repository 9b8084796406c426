"""A module made ready for products whenever one is wanted, and put back after each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from attrs import define, field, frozen

from atlas_pyhessian import reductions
from atlas_pyhessian.module_target import ModuleTarget
from atlas_pyhessian.operators import HessianOperator, LossOperator, SymmetricOperator, output_operator
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.settings import Settings

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["ModuleSession", "SelfPreparingOperator", "as_scipy"]


@define
class ModuleSession:
    """The operator of a module's loss, with the module prepared only while it is used.

    Attributes:
        target: Module, loss and data.
        settings: Which parameters, matrix, dtype and graph.
        operator: Made at the first use, and then always the same.
        generation: Counts how often the weights were found to differ from what they were at the last use.
    """

    target: ModuleTarget
    settings: Settings
    operator: LossOperator | None = None
    generation: int = 0
    _weights: list[float] = field(factory=list)

    @contextmanager
    def ready(self) -> Iterator[tuple[Parameters, LossOperator]]:
        """Prepare the module and give its chosen parameters and the operator; put it back on leaving."""
        module, settings = self.target.module, self.settings
        with prepared(module, include=settings.parameters, dtype=settings.dtype) as parameters:
            tensors = [*module.parameters(), *module.buffers()]
            flat = [tensor.detach().reshape(-1) for tensor in tensors if tensor.is_floating_point()]
            weights = [reductions.dot(part, part) for part in flat]
            if weights != self._weights:
                self._weights = weights
                self.generation += 1
                self.release()
            if self.operator is None:
                self.operator = self._build(parameters)
            try:
                yield parameters, self.operator
            finally:
                if settings.dtype is not None:
                    self.release()

    def release(self) -> None:
        """Drop retained graphs."""
        if self.operator is not None:
            self.operator.release()

    def _build(self, parameters: Parameters) -> LossOperator:
        target, kind = self.target, self.settings.operator
        retain_graph = self.settings.retain_graph(len(target.batches))
        if kind == "hessian":
            return HessianOperator(parameters, target.loss_sum, target.batches, retain_graph=retain_graph)
        return output_operator(
            kind,
            parameters,
            target.forward,
            target.batches,
            sample_dims=target.sample_dims if kind == "empirical_fisher" else 1,
            retain_graph=retain_graph,
        )


@frozen
class SelfPreparingOperator:
    """An operator whose every product prepares the module and puts it back.

    Attributes:
        session: Whose operator it is.
        size: Dimension n.
        dtype: Floating-point type of vectors.
        device: Device of vectors.
    """

    session: ModuleSession
    size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def num_matvecs(self) -> int:
        """Products computed so far, those of measurements included."""
        return self.session.operator.num_matvecs if self.session.operator is not None else 0

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with a vector `[n]`, in `out` where given; `vector` is left as it is."""
        with self.session.ready() as (_, operator):
            return operator.matvec(vector, out=out)


def as_scipy(operator: SymmetricOperator) -> LinearOperator:
    """Return an operator as a `scipy.sparse.linalg.LinearOperator` on the CPU."""
    from scipy.sparse.linalg import LinearOperator

    def multiply(vector: Any) -> Any:
        given = torch.from_numpy(vector.reshape(-1).copy()).to(operator.device, operator.dtype)
        return operator.matvec(given).cpu().numpy()

    shape, dtype = (operator.size, operator.size), torch.empty(0, dtype=operator.dtype).numpy().dtype
    return LinearOperator(shape, matvec=multiply, rmatvec=multiply, dtype=dtype)
