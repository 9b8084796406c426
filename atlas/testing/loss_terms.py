"""The contract of loss terms: a finite scalar with the gradient that its values have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

    from atlas.contracts import LossTerm

__all__ = ["LossTermContract"]

_PARAMETERS, _STEP = 64, 1e-6


class LossTermContract:
    """Subclass it as `Test...`, name the term, and make outputs for it.

    Attributes:
        term: The term under test.
    """

    term: ClassVar[LossTerm]

    def example(self, parameters: torch.Tensor) -> Any:
        """Return outputs of the term's slot as a differentiable function of 64 numbers in float64.

        Twice differentiable around them, since curvature is taken of sums with the term.
        """
        raise NotImplementedError("make outputs of the term's slot")

    def _value(self, parameters: torch.Tensor) -> torch.Tensor:
        return self.term.function(self.example(parameters))

    def _point(self) -> torch.Tensor:
        import torch

        drawn = torch.randn(_PARAMETERS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        return drawn.requires_grad_()

    def test_an_installed_card_offers_it(self) -> None:
        """Manifests can name the term."""
        from atlas.catalog import discover

        offer = discover().find("loss_terms", self.term.name)
        assert offer.summary.endswith("."), "the summary is a sentence"
        assert self.term.formula and self.term.source, "state formula and source"
        assert self.term.default_weight >= 0

    def test_it_is_a_finite_scalar(self) -> None:
        """It can be summed with others."""
        value = self._value(self._point())
        assert value.ndim == 0
        assert value.isfinite()

    def test_its_gradient_is_that_of_its_values(self) -> None:
        """Along a random direction, to the error of central differences, and not zero."""
        import torch

        point = self._point()
        (gradient,) = torch.autograd.grad(self._value(point), point)
        assert gradient.isfinite().all()
        assert gradient.norm() > 0
        with torch.no_grad():
            along = gradient / gradient.norm()
            ahead, behind = self._value(point + _STEP * along), self._value(point - _STEP * along)
        slope = float(ahead - behind) / (2 * _STEP)
        # rounding eps |f| / h and truncation h^2 f''' / 6, each below 1e-5 of a gradient of order one
        assert abs(slope - float(gradient.norm())) <= 1e-5 * max(1.0, float(gradient.norm()))

    def test_it_can_be_differentiated_twice(self) -> None:
        """Curvature is taken of losses that contain it."""
        import torch

        point = self._point()
        (gradient,) = torch.autograd.grad(self._value(point), point, create_graph=True)
        (bent,) = torch.autograd.grad(gradient.square().sum(), point, allow_unused=True)
        assert bent is None or bool(bent.isfinite().all())
