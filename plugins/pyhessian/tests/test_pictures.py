"""Pictures and report section: same bytes for the same rows, readable without the picture."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from atlas_pyhessian.figures import step_figures
from atlas_pyhessian.pictures.spectrum import draw_slices, draw_spectrum
from atlas_pyhessian.section import render
from attrs import field, frozen


def row(key, index, value, *, converged=True, residual=0.4):
    return {
        "slice": key,
        "index": index,
        "eigenvalue": value,
        "residual_norm": residual,
        "relative_residual": None if residual is None else residual / 815.0,
        "end": None,
        "converged": converged,
    }


ROWS = [row("all", 1, 815.0), row("all", 2, 748.6), row("all", 3, -224.2, converged=False)]
POINTS = [
    {"slice": "all", "low": x, "high": x + 110.0, "count": 10.0, "count_low": 6.0, "count_high": 14.0}
    for x in range(-230, 800, 110)
]


@frozen
class View:
    spectrum: list
    density: list
    more: dict = field(factory=dict)
    operator: str = ""

    @property
    def artifacts(self):
        return {"raw/curvature/facts.json"} if self.operator else {}

    def read(self, path):
        return json.dumps({"operator": self.operator}).encode()

    def tables(self, step):
        tables = {"spectrum": self.spectrum} | self.more
        return tables | ({"density": self.density} if self.density else {})


def block(name, parameters, value):
    return {
        "slice": "all", "block": name, "parameters": parameters, "size": 4, "lambda_max": value,
        "lambda_max_residual": 0.01, "lambda_min": -value / 4, "lambda_min_residual": 0.01,
        "trace": value * 2, "trace_low": value, "trace_high": value * 3, "converged": True,
    }  # fmt: skip


def tensor(name, trace):
    return {
        "slice": "all", "parameter": name, "size": 4, "trace": trace, "standard_error": 1.0,
        "trace_low": trace - 2, "trace_high": trace + 2,
    }  # fmt: skip


def member(position, step, value):
    return {
        "position": position, "label": f"step{step}", "step": step, "slice": "all", "lambda_max": value,
        "lambda_max_residual": 0.1, "lambda_min": -value / 5, "lambda_min_residual": None, "trace": value * 9,
        "trace_low": value * 8, "trace_high": value * 10, "loss": 3.0, "gradient_norm": 1.0,
    }  # fmt: skip


DIRECTION = {
    "slice": "all", "direction": "later", "distance": 2.0, "slope": -0.5, "curvature": 3.0,
    "certified_share": 0.25,
}  # fmt: skip
PATH = [
    {
        "slice": "all",
        "direction": "later",
        "position": t,
        "distance": 2 * t,
        "loss": 3 - t,
        "predicted": 3 + 5 * t,
    }
    for t in (0.0, 0.5, 1.0)
]


@pytest.mark.parametrize("points", [(), POINTS])
def test_the_same_rows_give_the_same_bytes(points):
    first, second = (draw_spectrum(ROWS, points) for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first
    assert ElementTree.fromstring(first).tag.endswith("svg")


def test_many_slices_share_one_picture():
    rows = [row(f"pair-{i}", 1, 100.0 + i) for i in range(9)]
    assert draw_slices(rows) == draw_slices(rows)
    html = render(View(rows, []), "curvature").html
    assert html.count("<img") == 1
    assert "9 slices" in html


def figures(more, **options):
    return {f.name: f for f in step_figures(View(ROWS, [], more, **options), "curvature")}


def test_blocks_are_drawn_with_the_largest_named():
    rows = [block("h.0", "h.0.a h.0.b", 700.0), block("h.1", "h.1.a h.1.b", 20.0)]
    found = figures({"blocks": rows})
    assert set(found) == {"spectrum", "blocks"}
    assert "2 diagonal blocks of the Hessian" in found["blocks"].caption
    assert "700 ± 0.01 nat, in h.0; that of the whole is 815" in found["blocks"].caption
    assert found["blocks"].draw("png")[:4] == b"\x89PNG"


def test_blocks_of_single_tensors_become_a_map_of_layers():
    rows = [block(name, name, 5.0) for name in ("wte.weight", "h.0.a.weight", "h.1.a.weight")]
    found = figures({"blocks": rows})
    assert set(found) == {"spectrum", "blocks", "block-layers"}
    assert found["block-layers"].draw("svg") == found["block-layers"].draw("svg")


def test_tensors_whose_interval_holds_zero_are_counted():
    rows = [tensor("wte.weight", 50.0), tensor("h.0.a.weight", 1.0), tensor("h.1.a.weight", -9.0)]
    found = figures({"tensors": rows})["tensors"]
    assert "largest is that of wte.weight: 50 ± 1 nat" in found.caption
    assert "the 1 of 3 whose 95% interval holds zero" in found.caption
    assert found.draw("png")[:4] == b"\x89PNG"


def test_the_way_to_a_checkpoint_states_what_the_model_says_there():
    found = figures({"directions": [DIRECTION], "path": PATH})["path-later"]
    assert "3 nat here and 2 there, where the quadratic model says 8" in found.caption
    assert "hold 25.00% of the direction's squared length" in found.caption
    assert found.draw("png")[:4] == b"\x89PNG"


def test_a_series_is_drawn_against_the_step_with_its_density():
    keys = {"step1": 100.0, "step64": 200.0, "step4000": 300.0}
    rows = [member(i, int(k[4:]), v) for i, (k, v) in enumerate(keys.items(), start=1)]
    spectrum = [row(key, 1, value) for key, value in keys.items()]
    points = [{**point, "slice": key} for key in keys for point in POINTS]
    view = View(spectrum, points, {"series": rows})
    found = {f.name: f for f in step_figures(view, "curvature")}
    assert list(found)[:3] == ["series", "density-series", "slices"]
    assert "3 checkpoints, step1 to step4000" in found["series"].caption
    assert "from 100 to 300 nat" in found["series"].caption
    for name in ("series", "density-series"):
        assert found[name].draw("svg") == found[name].draw("svg")


def test_a_gauss_newton_matrix_is_not_called_a_hessian():
    more = {
        "blocks": [block("h.0.a", "h.0.a", 7.0)], "tensors": [tensor("h.0.a", 1.0)],
        "directions": [DIRECTION], "path": PATH, "series": [member(1, 1, 2.0), member(2, 2, 3.0)],
    }  # fmt: skip
    view = View(ROWS, [], more, operator="ggn")
    page = render(view, "curvature")
    pictures = b"".join(f.draw("svg") for f in step_figures(view, "curvature")).decode()
    assert page.title == "Spectrum of the loss's Gauss-Newton matrix"
    assert "Hessian" not in page.html
    assert "Gauss-Newton matrix" in page.html
    assert "Gauss" in pictures
    assert "Hessian" not in pictures


def test_the_caption_says_what_the_picture_shows():
    html = render(View(ROWS, POINTS), "curvature").html
    assert "Eigenvalues 815, 748.6, -224.2" in html
    assert "largest verified residual 4.9e-04" in html
    assert "1 did not reach the tolerance" in html
    assert "<script" not in html


def test_an_engine_without_residuals_is_named_as_such():
    html = render(View([row("all", 1, 9.0, converged=False, residual=None)], []), "x").html
    assert "states no error" in html


def test_a_slice_key_is_escaped():
    rows = [row("<b>&", 1, 9.0), row("two", 1, 8.0)]
    assert "<b>&" not in render(View(rows, []), "x").html


def test_drawing_imports_no_torch():
    code = (
        "import sys; from atlas_pyhessian.section import render; import matplotlib;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
