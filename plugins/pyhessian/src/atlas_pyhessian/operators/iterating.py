"""One matrix in two precisions: iterated with at the speed of a device, certified as exactly as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from atlas.errors import BadInput
from atlas_pyhessian.operators.compiled import CompiledOperator, coarse
from atlas_pyhessian.operators.hessian import HessianOperator
from atlas_pyhessian.operators.loss_surface import LossFacts, LossOperator, LossSurface
from atlas_pyhessian.operators.symmetric import OperatorView
from atlas_pyhessian.operators.traced import Untraceable

__all__ = ["IteratingOperator", "Products", "iterating"]

Products = Literal["auto", "exact", "exact-graph", "tf32", "tf32-graph", "tf32-fused"]
"""How products are computed while iterating on a CUDA device; see the card."""

_LONG_KERNELS = 500_000_000
"""Parameters from which a device is busy with each kernel longer than with launching the next."""


class IteratingOperator:
    """A Hessian whose products are fast, beside its exact ones.

    The fast product is made when it is first asked for, after the loss has been checked by exact products.

    Args:
        exact: The exact operator.
        products: `exact-graph`, `tf32`, `tf32-graph` or `tf32-fused`.
        note: Told of what could not be done, and of how far the fast products are from exact ones.

    Attributes:
        certifier: The exact products; None where the fast ones are as exact.
    """

    def __init__(self, exact: HessianOperator, products: Products, note: Callable[[str], None]) -> None:
        self.exact = exact
        self.certifier: OperatorView | None = None
        if products != "exact-graph":
            self.certifier = OperatorView(exact, lambda vector, out: exact.matvec(vector, out=out))
        self._products = products
        self._note = note
        self._fast: OperatorView | CompiledOperator | None = None

    @property
    def size(self) -> int:
        """Dimension n."""
        return self.exact.size

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of vectors."""
        return self.exact.dtype

    @property
    def device(self) -> torch.device:
        """Device of vectors."""
        return self.exact.device

    @property
    def num_matvecs(self) -> int:
        """Products computed so far, exact ones included."""
        return self.exact.num_matvecs + (self._fast.num_matvecs if self._fast is not None else 0)

    @property
    def surface(self) -> LossSurface:
        """The loss."""
        return self.exact.surface

    def losses(self) -> tuple[float, ...]:
        """Return the mean loss of each micro-batch by a forward pass, nothing kept."""
        return self.exact.losses()

    def facts(self) -> LossFacts:
        """Evaluate loss and gradient once."""
        return self.exact.facts()

    def repeated_matvec(self, vector: torch.Tensor, *, rtol: float = 1e-3) -> torch.Tensor:
        """Return an exact product that was computed twice on graphs built anew, after comparing the two."""
        return self.exact.repeated_matvec(vector, rtol=rtol)

    def release(self) -> None:
        """Drop graphs and captures; the next product makes them again."""
        self.exact.release()
        self._fast = None

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with `vector`, `[n]` to `[n]`, in `out` where given."""
        if self._fast is None:
            self._fast = self._made()
        return self._fast.matvec(vector, out=out)

    def _made(self) -> OperatorView | CompiledOperator:
        if self._products == "tf32":
            return coarse(self.exact)
        made: str = self._products
        try:
            fast = CompiledOperator(self.exact, tf32=made != "exact-graph", fuse=made == "tf32-fused")
        except Untraceable as error:
            fast, made = CompiledOperator(self.exact, tf32=True), f"tf32-graph, not fused since {error}"
        self._note(f"{made}; a product of random signs is {fast.agreement:.1e} from the exact one")
        return fast


def iterating(
    operator: LossOperator, products: Products, *, num_batches: int, note: Callable[[str], None]
) -> LossOperator:
    """Return what to iterate with: the operator itself, or its matrix with faster products.

    Args:
        operator: The exact operator.
        products: What was asked for. `auto` takes TF32 for the Hessian of a float32 model on a CUDA device,
            from a CUDA graph if it has one micro-batch and fewer than half a billion parameters.
        num_batches: Micro-batches; a CUDA graph holds the graphs of all of them at once.
        note: Told of what could not be done, and of how far the fast products are from exact ones.

    Raises:
        BadInput: Faster products were asked for, and there are none.
    """
    possible = isinstance(operator, HessianOperator) and operator.device.type == "cuda"
    possible = possible and operator.dtype is torch.float32
    if products == "exact" or (products == "auto" and not possible):
        return operator
    if not possible:
        raise BadInput(
            f"`products: {products}` is for the Hessian of a float32 model on a CUDA device",
            fix="set `products: auto`",
        )
    assert isinstance(operator, HessianOperator)
    if products == "auto":
        short = num_batches == 1 and operator.size < _LONG_KERNELS
        products = "tf32-graph" if short else "tf32"
    return IteratingOperator(operator, products, note)
