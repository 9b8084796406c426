"""The whole engine against exact float64 Hessians of six architectures, in float64 and in float32."""

from __future__ import annotations

import importlib.util
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from atlas_pyhessian.measurement import measure_curvature
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.settings import Settings

from atlas.manifest.structure import fill
from atlas.randomness import RandomStreams

_SPEC = importlib.util.spec_from_file_location("architectures", Path(__file__).with_name("architectures.py"))
architectures = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(architectures)

CARD = Path(find_spec("atlas_pyhessian").origin).parent / "atlas-plugin.yaml"
SCHEMA = yaml.safe_load(CARD.read_text("utf-8"))["provides"]["instruments"]["pyhessian"]["params"]


def measured(case, **params):
    settings = Settings.from_params(fill(SCHEMA, {"trace": {"max_probes": 24}, **params}))
    with prepared(case.module) as parameters:
        operator = HessianOperator(parameters, case.loss_sum, case.batches, retain_graph=True)
        probes = Probes(
            RandomStreams(7), parameters.names, parameters.sizes, parameters.dtype, parameters.device
        )
        result = measure_curvature(
            operator, probes, settings, purpose="exactness", report=lambda what, matvecs, error: None
        )
    return result


def errors(result, theta):
    """Errors of the five largest magnitudes and of both ends, relative to ||H||."""
    norm = theta.abs().max()
    values = torch.tensor(result.spectrum.values, dtype=torch.float64)
    top = values.abs().sort(descending=True).values[:5] - theta.abs().sort(descending=True).values[:5]
    ends = torch.stack([values.max() - theta.max(), values.min() - theta.min()])
    return float(torch.cat([top, ends]).abs().max() / norm)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_float64_equals_the_exact_hessian(name):
    """A residual bounds the eigenvalues' errors; four standard errors are left once in 10,000."""
    tolerance = architectures.TOLERANCES.get(name, 1e-8)
    case = architectures.ARCHITECTURES[name]()
    exact = architectures.exact_hessian(case)
    theta = torch.linalg.eigvalsh(exact)
    result = measured(case, tolerance=tolerance, max_matvecs=2000)
    assert all(result.spectrum.converged)
    assert errors(result, theta) <= tolerance
    for part, true in (
        (result.trace.trace, float(theta.sum())),
        (result.trace.frobenius_squared, float(theta.square().sum())),
    ):
        assert abs(part.value - true) <= 4 * part.standard_error


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_float32_equals_the_exact_hessian_at_its_tolerance(name):
    """The weights are those that float32 holds; a residual of 1e-4 is far above float32's products' error."""
    case = architectures.ARCHITECTURES[name]()
    case.module.float().double()
    theta = torch.linalg.eigvalsh(architectures.exact_hessian(case))
    case.module.float()
    result = measured(case, tolerance=1e-4, max_matvecs=1000)
    assert all(result.spectrum.converged)
    assert errors(result, theta) <= 1e-4
