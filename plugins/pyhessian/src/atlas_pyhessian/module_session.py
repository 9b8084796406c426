"""A module made ready for products whenever one is wanted, and put back after each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from attrs import define, field, frozen

from atlas_pyhessian import reductions
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.module_target import ModuleTarget
from atlas_pyhessian.operators import (
    HessianOperator,
    LossOperator,
    SymmetricOperator,
    iterating,
    output_operator,
)
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.restarts import MakeBasis
from atlas_pyhessian.settings import Settings

if TYPE_CHECKING:
    import torch.distributed as dist
    from scipy.sparse.linalg import LinearOperator

__all__ = ["ModuleSession", "SelfPreparingOperator", "as_scipy"]


@define
class ModuleSession:
    """The operator of a module's loss, with the module prepared only while it is used.

    Attributes:
        target: Module, loss and data.
        settings: Which parameters, matrix, dtype and graph.
        group: Processes that share the data and the basis; None for this one alone.
        notes: What fast products are like, once they were made.
        operator: Made at the first use, and then always the same.
        generation: Counts how often the weights were found to differ from what they were at the last use.
    """

    target: ModuleTarget
    settings: Settings
    group: dist.ProcessGroup | None = None
    notes: list[str] = field(factory=list)
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
                self.operator = self._shared(self._build(parameters))
            try:
                yield parameters, self.operator
            finally:
                if settings.dtype is not None:
                    self.release()

    def release(self) -> None:
        """Drop retained graphs."""
        if self.operator is not None:
            self.operator.release()

    def make_basis(self) -> MakeBasis | None:
        """Return what makes a Lanczos basis that the processes share; None where there is one process."""
        group, operator = self.group, self.operator
        if group is None or operator is None:
            return None
        from atlas_pyhessian.sharded_basis import ShardedBasis

        dtype, device = operator.dtype, operator.device

        def make(capacity: int, size: int, storage: torch.dtype) -> Basis:
            return ShardedBasis(capacity, size, storage=storage, dtype=dtype, device=device, group=group)

        return make

    def _shared(self, exact: LossOperator) -> LossOperator:
        """Return what to iterate with: fast products of this process, summed over all."""
        count = len(self.target.batches)
        operator = iterating(exact, self.settings.products, num_batches=count, note=self.notes.append)
        if self.group is None:
            return operator
        from atlas_pyhessian.operators.distributed import DataParallelOperator

        return DataParallelOperator(operator, self.group)

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
