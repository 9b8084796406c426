"""Draws both sweeps of a run: `python benchmarks/harmonics_picture.py SWEEP.csv OUT EIGENVALUE`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from atlas_pyhessian.pictures.style import INK, PALETTE, encode, style


def main() -> int:
    """Draw the sweeps of batch order and of a cyclic rate, predicted and measured."""
    source, out, eigenvalue = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    rows = list(csv.DictReader(source.read_text("utf-8").splitlines()))
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
        for axis, drive, label in (
            (axes[0], "order", "gain"),
            (axes[1], "rate", "growth of the swing a step"),
        ):
            part = sorted((r for r in rows if r["drive"] == drive), key=lambda r: float(r["frequency"]))
            x = [float(r["frequency"]) for r in part]
            axis.plot(x, [float(r["predicted"]) for r in part], color=PALETTE[0], label="predicted")
            axis.plot(x, [float(r["measured"]) for r in part], "o", ms=4, color=PALETTE[1], label="measured")
            axis.axvline(eigenvalue, color=INK, ls=":", label="literal: frequency = eigenvalue")
            axis.set(xlabel="frequency of the drive, rad/step", ylabel=label)
            axis.set_title({"order": "Order of batches", "rate": "Cyclic rate"}[drive], loc="left")
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
        )
        out.write_bytes(encode(figure, out.suffix[1:]))
        plt.close(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
