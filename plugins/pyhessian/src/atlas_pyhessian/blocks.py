"""Diagonal blocks of a curvature matrix: which parameters form one, and the spectrum and trace of each.

A block H_bb is the same loss's matrix by its own parameters alone, all others held fixed. Only those then
require a gradient, so that a backward pass ends where the block begins. By Cauchy's interlacing its
eigenvalues lie between the whole matrix' ends; the blocks' traces sum to the whole trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from attrs import evolve, frozen

from atlas.errors import AtlasError, BadInput
from atlas_pyhessian.measurement import Measurement, Report, measure_curvature
from atlas_pyhessian.operators import LossOperator
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.restarts import MakeBasis
from atlas_pyhessian.savedstates import SavedStates
from atlas_pyhessian.settings import BlockSettings, Settings

__all__ = ["Block", "block_row", "find_blocks", "measure_block"]


@frozen
class Block:
    """Parameters whose diagonal block is measured.

    Attributes:
        name: A module's or parameter's qualified name, or the name given to a list of globs.
        parameters: The parameters, in the module's order.
    """

    name: str
    parameters: Parameters


def find_blocks(parameters: Parameters, by: str | Mapping[str, Sequence[str]]) -> tuple[Block, ...]:
    """Divide parameters into blocks, in the order in which their first parameter comes.

    Args:
        parameters: The distinct parameters; a tied weight is there once, and in one block therefore.
        by: `layers`: one block for each repeated layer, known by the first number in a parameter's name
            (`model.layers.3`), the rest by module (`model.embed_tokens`, `model.norm`, `lm_head`).
            `tensors`: each by itself. Or globs by the block's name; they need not cover everything.

    Raises:
        BadInput: A glob matches no parameter.
    """
    groups: dict[str, list[str]] = {}
    if isinstance(by, str):
        roots = {n.split(".")[0] for n in parameters.names if _layer(n) not in (None, n.split(".")[0])}
        for name in parameters.names:
            block = name if by == "tensors" else _layer(name) or _module(name, roots)
            groups.setdefault(block, []).append(name)
    else:
        for block, globs in by.items():
            for glob in globs:
                if not any(fnmatchcase(name, glob) for name in parameters.names):
                    raise BadInput(
                        f"{glob!r} of the block {block!r} matches none of the chosen parameters",
                        where="blocks",
                        fix=f"write a glob over names such as {', '.join(parameters.names[:4])}",
                    )
            groups[block] = [n for n in parameters.names if any(fnmatchcase(n, glob) for glob in globs)]
    tensors = dict(zip(parameters.names, parameters.tensors, strict=True))
    return tuple(
        Block(block, Parameters(tuple(names), tuple(tensors[name] for name in names)))
        for block, names in groups.items()
    )


def _layer(name: str) -> str | None:
    """Return a parameter's name up to its first number, or None where there is none."""
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    return None if first is None else ".".join(parts[: first + 1])


def _module(name: str, roots: set[str]) -> str:
    """Return the top module of a parameter outside all layers, below the module that holds the layers."""
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] in roots and len(parts) > 2 else 1])


@contextmanager
def _only(block: Parameters, whole: Parameters) -> Iterator[None]:
    """Let only the block's parameters require a gradient for the time being."""
    chosen = {id(tensor) for tensor in block.tensors}
    before = [tensor.requires_grad for tensor in whole.tensors]
    try:
        for tensor in whole.tensors:
            tensor.requires_grad_(id(tensor) in chosen)
        yield
    finally:
        for tensor, required in zip(whole.tensors, before, strict=True):
            tensor.requires_grad_(required)


def measure_block(
    block: Block,
    whole: Parameters,
    make_operator: Callable[[Parameters], LossOperator],
    probes: Probes,
    settings: Settings,
    light: BlockSettings,
    *,
    purpose: str,
    report: Report,
    make_basis: MakeBasis | None = None,
    states: SavedStates | None = None,
) -> Measurement:
    """Measure one diagonal block with the engine that measures the whole.

    Args:
        block: The block.
        whole: All chosen parameters.
        make_operator: Makes the matrix of the loss by the parameters given.
        probes: Random vectors over all chosen parameters; a block's are their pieces.
        settings: The step's settings.
        light: What of them is different for blocks.
        purpose: Prefix that keeps the draws apart from others'.
        report: Told how far it is.
        make_basis: Makes the Lanczos basis; None keeps it in memory.
        states: Where it is kept how far it is; None for nowhere.

    Raises:
        AtlasError: As the measurement of the whole, with the block named.
    """
    own = evolve(probes, names=block.parameters.names, sizes=block.parameters.sizes)
    with _only(block.parameters, whole):
        operator = make_operator(block.parameters)
        try:
            return measure_curvature(
                operator,
                own,
                light.applied_to(settings),
                purpose=f"{purpose} block",
                report=report,
                make_basis=make_basis,
                states=states,
            )
        except AtlasError as error:
            error.where = f"block {block.name}" + (f", {error.where}" if error.where else "")
            raise
        finally:
            operator.release()


def block_row(block: Block, result: Measurement) -> dict[str, Any]:
    """Return a block's row of the table `blocks`, without the slice."""
    spectrum, trace = result.spectrum, result.trace
    pairs = sorted(zip(spectrum.values, spectrum.residual_norms, strict=True))
    (low, low_residual), (high, high_residual) = pairs[0], pairs[-1]
    row = {
        "block": block.name,
        "parameters": " ".join(block.parameters.names),
        "size": block.parameters.size,
        "lambda_max": high,
        "lambda_max_residual": high_residual,
        "lambda_min": low,
        "lambda_min_residual": low_residual,
        "converged": spectrum.settled,
        "num_matvecs": max(quantity.num_matvecs or 0 for quantity in result.quantities),
    }
    if trace is None:
        return row
    return row | {
        "trace": trace.trace.value,
        "trace_standard_error": trace.trace.standard_error,
        "trace_low": trace.trace.low,
        "trace_high": trace.trace.high,
        "frobenius_squared": trace.frobenius_squared.value,
        "frobenius_standard_error": trace.frobenius_squared.standard_error,
    }
