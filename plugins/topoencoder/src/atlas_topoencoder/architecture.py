"""The sizes and choices that a TopoEncoder is built from."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen
from attrs.validators import ge, gt, in_

from atlas.errors import BadInput

__all__ = ["EXTRACTORS", "ROUTERS", "ROUTINGS", "Architecture"]

EXTRACTORS = ("mlp", "conv", "retina")
ROUTERS = ("covariant", "attention")
ROUTINGS = ("soft", "hard", "straight-through")


def _shape(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape)


@frozen
class Architecture:
    """What a TopoEncoder is built from.

    Attributes:
        shape: Of one example: `[features]`, or `[channels, height, width]`.
        hidden: Width of the extractor's output and of the decoder, H.
        latent: Dimensions of the ball, D.
        charts: N_c.
        codes: Codes of a chart, K.
        extractor: `mlp` of any shape; `conv` and `retina` of images. The retina does not change its
            features when an image is turned by a quarter.
        router: `covariant` scores charts by distance, `attention` by learned queries.
        shared_router: Whether encoder and decoder route by the same router and centres.
        soft_equivariant: Whether codes are chosen by a learned metric that weighs the norms of bundles.
        texture: Whether the decoder adds the texture path.
        detail: Whether the texture also holds what the extractor saw of an example and its point does not.
        routing: How charts blend: by the softmax, by the greatest score, or by the latter with the
            gradient of the former.
        lipschitz: Greatest spectral norm of a spectrally bounded layer.
        max_radius: Hyperbolic distance from the origin within which every point stays.

    Raises:
        BadInput: A size is not positive, or an extractor of images is given another shape.
    """

    shape: tuple[int, ...] = field(converter=_shape)
    hidden: int = field(default=256, validator=ge(1))
    latent: int = field(default=16, validator=ge(2))
    charts: int = field(default=10, validator=ge(1))
    codes: int = field(default=16, validator=ge(1))
    extractor: str = field(default="mlp", validator=in_(EXTRACTORS))
    router: str = field(default="covariant", validator=in_(ROUTERS))
    shared_router: bool = True
    soft_equivariant: bool = False
    texture: bool = True
    detail: bool = True
    routing: str = field(default="soft", validator=in_(ROUTINGS))
    lipschitz: float = field(default=4.0, validator=gt(0.0))
    max_radius: float = field(default=6.0, validator=gt(0.0))

    def __attrs_post_init__(self) -> None:
        """Refuse shapes that no extractor reads."""
        if not self.shape or min(self.shape) < 1:
            raise BadInput(f"examples of shape {list(self.shape)} hold no number", where="model.shape")
        if self.extractor != "mlp" and len(self.shape) != 3:
            raise BadInput(
                f"the extractor {self.extractor!r} reads images, but examples have shape {list(self.shape)}",
                where="model.extractor",
                fix="give examples as [channels, height, width], or write `extractor: mlp`",
            )
