"""Straight ways to other checkpoints: what their direction meets here, and the loss along them.

On the way the loss is evaluated beside what the quadratic model `loss + s g.d + s^2 d^T H d / 2` says at the
distance s, so that it is seen how far the quadratic picture holds. The gradient is a direction too, which
leads to no checkpoint. Nothing here is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import asdict, frozen

from atlas.errors import BadInput, InstrumentFailed
from atlas.quantities import Quantity
from atlas_pyhessian import reductions
from atlas_pyhessian.directions import DirectionCurvature, loss_gradient, measure_direction
from atlas_pyhessian.operators import SymmetricOperator
from atlas_pyhessian.operators.loss_surface import LossSurface
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.spectrum import Spectrum

__all__ = [
    "GRADIENT",
    "POSITIONS",
    "Line",
    "MeasuredLine",
    "PathPoint",
    "SameWeights",
    "along_quantities",
    "line_to",
    "measure_lines",
    "measure_path",
]

GRADIENT = "gradient"
"""The name that stands for the gradient's direction, and for no target."""

POSITIONS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
"""Where the loss is evaluated on the way to the other checkpoint; close to here the model should hold."""

_SHOWN = 6


class SameWeights(BadInput):
    """The other checkpoint is this one."""


@frozen
class Line:
    """A straight way in the space of the chosen parameters.

    Attributes:
        direction: Unit vector `[n]`.
        distance: Its length.
    """

    direction: torch.Tensor
    distance: float


@frozen
class PathPoint:
    """The loss on the straight line, `position` 0 here and 1 at the other checkpoint.

    Attributes:
        position: t.
        distance: Length of the way so far, s.
        loss: Mean loss there.
        predicted: By the quadratic model.
    """

    position: float
    distance: float
    loss: float
    predicted: float


@frozen
class MeasuredLine:
    """A direction with its name and what was measured.

    Attributes:
        name: `gradient`, or the target it leads to.
        distance: Length of the way; None for the gradient.
        measured: What the direction meets here.
        path: The loss on the way; empty for the gradient.
    """

    name: str
    distance: float | None
    measured: DirectionCurvature
    path: tuple[PathPoint, ...]

    def row(self) -> dict[str, Any]:
        """Return the row of the table `directions`, without its key."""
        values = asdict(self.measured, recurse=False)
        del values["alignments"]
        return {"distance": self.distance} | values

    def alignment_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table `alignment`, without their key."""
        return [asdict(alignment) for alignment in self.measured.alignments]

    def path_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table `path`, without their key."""
        return [asdict(point) for point in self.path]


def line_to(parameters: Parameters, other: torch.nn.Module, name: str) -> Line:
    """Return the way from theta_here to theta_other over the chosen parameters, in their dtype.

    Args:
        parameters: The parameters here.
        other: A module with parameters of the same names and shapes.
        name: What messages call it.

    Raises:
        SameWeights: Nothing differs.
        BadInput: Names or shapes differ, or weights are not finite.
    """
    there = dict(other.named_parameters(remove_duplicate=False))
    wrong = []
    for key, tensor in zip(parameters.names, parameters.tensors, strict=True):
        if key not in there:
            wrong.append(f"{key} is not in it")
        elif there[key].shape != tensor.shape:
            wrong.append(f"{key} is {tuple(there[key].shape)} there and {tuple(tensor.shape)} here")
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise BadInput(
            f"the target {name!r} has other parameters: {'; '.join(wrong[:_SHOWN])}{more}",
            where="along",
            fix="name a checkpoint of the same architecture, or restrict `parameters` to what both have",
        )
    flat = torch.empty(parameters.size, dtype=parameters.dtype, device=parameters.device)
    for key, tensor, piece in zip(parameters.names, parameters.tensors, parameters.views(flat), strict=True):
        piece.copy_(there[key].detach())
        piece.sub_(tensor.detach())
    if parameters.first_non_finite(flat) is not None:
        raise BadInput(f"the target {name!r} holds weights that are not finite", where="along")
    distance = reductions.norm(flat)
    if not distance:
        raise SameWeights(
            f"the target {name!r} has the same weights: there is no direction to it",
            where="along",
            fix="name another checkpoint",
        )
    return Line(flat.div_(distance), distance)


def measure_path(
    surface: LossSurface,
    line: Line,
    measured: DirectionCurvature,
    positions: Sequence[float] = POSITIONS,
) -> tuple[PathPoint, ...]:
    """Evaluate the loss at `theta + t * distance * direction`.

    The parameters are moved in place, one set of them kept aside, and are afterwards what they were, bit
    for bit.

    Args:
        surface: The loss at theta.
        line: The way, from theta.
        measured: Slope and curvature along it at theta, for the prediction.
        positions: Values of t, 0 among them.

    Raises:
        InstrumentFailed: A loss on the way is not finite.
    """
    parameters = surface.parameters
    kept = [tensor.detach().clone() for tensor in parameters.tensors]
    points = []
    try:
        for t in positions:
            step = t * line.distance
            pieces = parameters.views(line.direction)
            for tensor, start, piece in zip(parameters.tensors, kept, pieces, strict=True):
                torch.add(start, piece, alpha=step, out=tensor.data)
            losses = surface.losses()
            weighted = (b.weight * loss for b, loss in zip(surface.batches, losses, strict=True))
            loss = math.fsum(weighted) / surface.weight
            if not math.isfinite(loss):
                raise InstrumentFailed(f"the loss is {loss} at {t:g} of the way to the other checkpoint")
            points.append((t, loss))
    finally:
        for tensor, start in zip(parameters.tensors, kept, strict=True):
            tensor.data.copy_(start)
    here = next(loss for t, loss in points if t == 0.0)
    lengths = [t * line.distance for t, _ in points]
    return tuple(
        PathPoint(t, s, loss, here + s * measured.slope + s * s * measured.curvature / 2)
        for (t, loss), s in zip(points, lengths, strict=True)
    )


def measure_lines(
    operator: SymmetricOperator,
    surface: LossSurface,
    names: Sequence[str],
    lines: Mapping[str, Line],
    spectrum: Spectrum | None = None,
) -> list[MeasuredLine]:
    """Measure the named directions in order, one product each, and the loss along each way.

    Args:
        operator: The matrix H.
        surface: Its loss.
        names: Names in `lines`, or `gradient`.
        lines: Ways to other checkpoints.
        spectrum: Eigenpairs of H.

    Raises:
        InstrumentFailed: The gradient is zero, or a loss on the way is not finite; the message names
            the direction.
    """
    gradient = loss_gradient(surface)
    result = []
    for name in names:
        if name != GRADIENT:
            line = lines[name]
            measured = measure_direction(operator, line.direction, gradient, spectrum)
            try:
                path = measure_path(surface, line, measured)
            except InstrumentFailed as error:
                error.where = f"direction {name}"
                raise
            result.append(MeasuredLine(name, line.distance, measured, path))
            continue
        length = reductions.norm(gradient)
        if not length:
            raise InstrumentFailed(
                "the gradient is zero and has no direction",
                where="along",
                fix=f"leave `{GRADIENT}` out of `along`",
            )
        measured = measure_direction(operator, gradient / length, gradient, spectrum)
        result.append(MeasuredLine(name, None, measured, ()))
    return result


def along_quantities(measured: Sequence[MeasuredLine], dtype: torch.dtype) -> list[Quantity]:
    """Return slope and curvature of each direction, numbered in their order."""
    rounding = f"nothing is estimated; rounded as {str(dtype).removeprefix('torch.')} arithmetic rounds"
    return [
        Quantity(
            name,
            value,
            0.0,
            "exact",
            unit="nat",
            num_matvecs=1,
            index=number,
            note=f"along {line.name}; {rounding}",
        )
        for number, line in enumerate(measured, start=1)
        for name, value in (
            ("slope_along", line.measured.slope),
            ("curvature_along", line.measured.curvature),
        )
    ]
