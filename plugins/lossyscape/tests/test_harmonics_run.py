"""`harmonics` on the outputs of a pyhessian step, through a manifest, against the recursion's own roots."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # a model, three processes and their imports: ten seconds

MANIFEST = """\
atlas: 1
name: modes
lineage: TNY
seed: 3
governance: none
targets: {{lm: {{use: hf, path: {model}}}}}
stimulus: {{use: text, texts: [cold air holds less water, warm air holds more water]}}
steps:
  - {{id: curvature, use: pyhessian, target: lm, params: {{top_k: 3, trace: {{max_probes: 2}}}}}}
  - {{id: heavy-ball, use: harmonics, params: {{rate: 0.02, momentum: 0.8}}, sees: [{{from: curvature.raw}}]}}
  - id: nesterov
    use: harmonics
    params: {{rate: 0.02, momentum: 0.8, optimizer: nesterov}}
    sees: [{{from: curvature.raw}}]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model):
    """A run of the manifest: its record and its report."""
    from atlas.testing import Atlas

    atlas = Atlas(tmp_path_factory.mktemp("run"), {})
    atlas.write("modes.yaml", MANIFEST.format(model=tiny_model))
    outcome = atlas("run", "modes.yaml")
    assert outcome.code == 0, outcome.err
    folder = atlas.runs()[0]
    return atlas.view(folder.name), (folder / "report.html").read_text("utf-8")


def angle(rule: str, value: float) -> float:
    """Angle of the slowest root by the eigenvalues of the update's own 2x2 matrix."""
    step, b = 1 - 0.02 * value, 0.8
    matrix = [[(1 + b) * step, -b * step], [1, 0]] if rule == "nesterov" else [[b + step, -b], [1, 0]]
    roots = np.linalg.eigvals(np.array(matrix))
    return float(abs(np.angle(roots[np.argmax(np.abs(roots))])))


@pytest.mark.parametrize("rule", ["heavy-ball", "nesterov"])
def test_every_certified_eigenvalue_gets_its_mode_with_the_ends_that_its_residual_allows(run, rule):
    view, _ = run
    spectrum = view.tables("curvature")["spectrum"]
    modes = view.tables(rule)["harmonics-modes"]
    assert len(modes) == len(spectrum) >= 3
    for mode, pair in zip(modes, spectrum, strict=True):
        value, bound = pair["eigenvalue"], pair["residual_norm"]
        assert (mode["index"], mode["eigenvalue"], mode["residual_norm"]) == (pair["index"], value, bound)
        names = ("frequency_low", "frequency", "frequency_high")
        expected = [angle(rule, value + shift) for shift in (-bound, 0, bound)]
        # Near a double root the angle is known to the square root of rounding.
        assert [mode[name] for name in names] == pytest.approx(expected, abs=1e-6)
    assert modes[0]["frequency_low"] < modes[0]["frequency"] < modes[0]["frequency_high"]


def test_a_mode_frequency_is_recorded_with_its_residual_bound(run):
    view, _ = run
    modes = view.tables("heavy-ball")["harmonics-modes"]
    found = [q for step, q in view.quantities() if step == "heavy-ball"]
    assert [q.value for q in found] == [mode["frequency"] for mode in modes]
    assert {q.uncertainty_kind.value for q in found} == {"residual_bound"}
    assert all(q.uncertainty >= max(q.high - q.value, q.value - q.low) - 1e-15 for q in found)


def test_the_report_lists_the_modes(run):
    view, page = run
    assert "Harmonics: predicted modes" in page
    assert f"{view.tables('nesterov')['harmonics-modes'][0]['frequency']:.4g}" in page
