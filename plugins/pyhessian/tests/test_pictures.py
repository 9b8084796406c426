"""Pictures and report section: same bytes for the same rows, readable without the picture."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from atlas_pyhessian.picture import draw_slices, draw_spectrum
from atlas_pyhessian.section import render
from attrs import frozen


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

    def tables(self, step):
        tables = {"spectrum": self.spectrum}
        return tables | ({"density": self.density} if self.density else {})


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
