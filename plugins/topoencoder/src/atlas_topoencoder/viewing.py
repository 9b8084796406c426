"""What pictures are drawn from: the places of points, codes and charts in the disc, and example images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from atlas_topoencoder.disc import principal_plane, radius_of
from atlas_topoencoder.geometry import expmap0, logmap0, mobius_add
from atlas_topoencoder.metrics import Reading
from atlas_topoencoder.repetition import History
from atlas_topoencoder.training import Training

__all__ = ["example_images", "place_rows"]

_EXAMPLES = 16

Row = dict[str, Any]


def place_rows(
    training: Training, history: History, rows: np.ndarray, known: Reading, test: Reading
) -> tuple[dict[str, list[Row]], float]:
    """Return the rows of the tables of places, and the share of the points' spread that the disc shows.

    All are placed in the principal plane of the test examples' latent points at the end.
    """
    plane = principal_plane(test.z_geo)
    classes = training.dataset.classes
    names = [""] * len(rows) if test.labels is None else [classes[label] for label in test.labels]
    placed = plane.place(test.z_geo)
    radii = radius_of(test.z_geo)
    points: list[Row] = [
        {
            "row": int(row),
            "x": float(placed[i, 0]),
            "y": float(placed[i, 1]),
            "radius": float(radii[i]),
            "chart": int(test.chart[i]),
            "code": int(test.code[i]),
            "class": names[i],
        }
        for i, row in enumerate(rows)
    ]
    snapshots: list[Row] = []
    for snapshot in history.snapshots:
        seen = plane.place(np.array(snapshot["z_geo"]))
        snapshots += [
            {
                "step": snapshot["step"],
                "row": int(rows[i]),
                "x": float(x),
                "y": float(y),
                "chart": snapshot["chart"][i],
                "class": names[i],
            }
            for i, (x, y) in enumerate(seen)
        ]
    model = training.model
    with torch.no_grad():
        tangent = model.router.centers_tangent
        centers = tangent.cpu().numpy()
        macro = mobius_add(expmap0(tangent).unsqueeze(1), model.codebook)
        codes = logmap0(macro).cpu().numpy()
    charts = _chart_rows(plane.place(centers), radius_of(centers), test, names)
    symbols = np.concatenate([known.symbol, test.symbol])
    used = np.bincount(symbols, minlength=test.charts * test.codes).reshape(test.charts, test.codes)
    coded: list[Row] = [
        {"chart": k, "code": j, "x": float(x), "y": float(y), "examples": int(used[k, j])}
        for k in range(test.charts)
        for j, (x, y) in enumerate(plane.place(codes[k]))
    ]
    return {"points": points, "snapshots": snapshots, "charts": charts, "codes": coded}, plane.share


def _chart_rows(placed: np.ndarray, radii: np.ndarray, test: Reading, names: list[str]) -> list[Row]:
    found: list[Row] = []
    for k, (x, y) in enumerate(placed):
        own = [names[i] for i in np.flatnonzero(test.chart == k)]
        commonest = max(sorted(set(own)), key=own.count) if own and test.labels is not None else None
        found.append(
            {
                "chart": k,
                "x": float(x),
                "y": float(y),
                "radius": float(radii[k]),
                "examples": len(own),
                "class": commonest,
                "purity": None if commonest is None else own.count(commonest) / len(own),
            }
        )
    return found


def example_images(training: Training, rows: np.ndarray) -> dict[str, np.ndarray] | None:
    """Return the first test images and what is decoded of them; None where examples are no images."""
    shape = training.dataset.shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        return None
    x = torch.from_numpy(training.dataset.take(rows[:_EXAMPLES])).to(training.device.device)
    model = training.model
    with torch.no_grad():
        e = model.encode(x)
        whole = model.decode(e.z_geo, e.z_tex)
        symbols = model.decode_codes(e.chart, e.code).base
    parts = {"example": x, "full": whole.reconstruction, "geo": whole.base, "codes": symbols}
    return {name: part.cpu().numpy().astype(np.float32) for name, part in parts.items()}
