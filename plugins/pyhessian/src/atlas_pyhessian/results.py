"""Numbers with their errors, shown as a table where they are asked for, and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from atlas.quantities import Quantity, UncertaintyKind
from atlas_pyhessian.pictures.spectrum import draw_spectrum

__all__ = ["Picture", "Result"]

_KINDS = {
    UncertaintyKind.EXACT: "",
    UncertaintyKind.RESIDUAL_BOUND: "bound",
    UncertaintyKind.STANDARD_ERROR: "standard error",
    UncertaintyKind.INTERVAL_95: "95% interval",
    UncertaintyKind.UNCERTIFIED: "no error known",
    UncertaintyKind.UNDEFINED: "",
}
_HEADS = ("", "value", "error", "which is", "products", "")


@frozen
class Picture:
    """A drawing that notebooks show and `save` writes.

    Attributes:
        data: The file's bytes.
        kind: `svg` or `png`.
    """

    data: bytes = field(repr=lambda data: f"{len(data)} bytes")
    kind: Literal["svg", "png"]

    def _repr_svg_(self) -> str | None:
        return self.data.decode("utf-8") if self.kind == "svg" else None

    def _repr_png_(self) -> bytes | None:
        return self.data if self.kind == "png" else None

    def save(self, path: str | Path) -> None:
        """Write the picture to a file."""
        Path(path).write_bytes(self.data)


def _digits(value: float, uncertainty: float | None) -> str:
    """Write a number to the second digit of its error, with six digits at least and nine at most."""
    if value == 0 or not uncertainty:
        return f"{value:.6g}"
    places = math.floor(math.log10(abs(value))) - math.floor(math.log10(uncertainty)) + 2
    return f"{value:.{min(max(places, 4), 9)}g}"


def _cells(quantity: Quantity) -> tuple[str, ...]:
    name = quantity.quantity + ("" if quantity.index is None else f" {quantity.index}")
    products = "" if quantity.num_matvecs is None else str(quantity.num_matvecs)
    if quantity.value is None:
        return name, "undefined", "", "", products, ""
    error = "" if quantity.uncertainty is None else f"± {quantity.uncertainty:.1e}"
    if quantity.low is not None and quantity.high is not None:
        error += f" [{quantity.low:.5g}, {quantity.high:.5g}]"
    kind = _KINDS[quantity.uncertainty_kind]
    state = "" if quantity.converged else "budget ran out first"
    return name, _digits(quantity.value, quantity.uncertainty), error, kind, products, state


@frozen(repr=False)
class Result:
    """What one call has measured.

    Attributes:
        title: What it is of.
        matrix: Name of the matrix.
        quantities: The numbers, each with its error.
        facts: Loss, gradient norm, settings and versions.
        spectrum: Rows of the eigenvalues known by then.
        density: Rows of the density, empty where none was asked for.
    """

    title: str
    matrix: str
    quantities: tuple[Quantity, ...]
    facts: Mapping[str, Any]
    spectrum: tuple[Mapping[str, Any], ...] = ()
    density: tuple[Mapping[str, Any], ...] = ()

    def __getitem__(self, name: str) -> Quantity:
        """Return the quantity of that name; eigenvalue 2 is `["eigenvalue 2"]`."""
        for quantity in self.quantities:
            if _cells(quantity)[0] == name:
                return quantity
        raise KeyError(f"{name!r}; there are {', '.join(_cells(q)[0] for q in self.quantities)}")

    @property
    def eigenvalues(self) -> tuple[float, ...]:
        """Eigenvalues by falling magnitude."""
        return tuple(row["eigenvalue"] for row in self.spectrum)

    @property
    def residual_norms(self) -> tuple[float, ...]:
        """The bound of each eigenvalue."""
        return tuple(row["residual_norm"] for row in self.spectrum)

    def __repr__(self) -> str:
        rows = [_HEADS, *(_cells(quantity) for quantity in self.quantities)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS) - 1)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
            for row in rows
        ]
        return "\n".join([self.title, *(line.rstrip() for line in lines), *self._reasons()])

    def _reasons(self) -> list[str]:
        return [f"{q.quantity}: {q.note}" for q in self.quantities if q.value is None]

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(row(_cells(quantity), "td") for quantity in self.quantities)
        reasons = "".join(f"<p>{escape(reason)}</p>" for reason in self._reasons())
        title = f"<caption>{escape(self.title)}</caption>"
        return f"<table>{title}{row(_HEADS, 'th')}{body}</table>{reasons}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values: ready for JSON, its lists for a data frame."""
        return {
            "title": self.title,
            "matrix": self.matrix,
            "facts": dict(self.facts),
            "quantities": [quantity.as_record() for quantity in self.quantities],
            "spectrum": [dict(row) for row in self.spectrum],
            "density": [dict(row) for row in self.density],
        }

    def plot(self, kind: Literal["svg", "png"] = "svg") -> Picture:
        """Draw the eigenvalues with their bounds, and the density where there is one."""
        return Picture(draw_spectrum(self.spectrum, self.density, matrix=self.matrix, kind=kind), kind)
