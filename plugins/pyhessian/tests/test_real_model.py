"""A real language model's eigenvalues against ARPACK, where the model has been pulled."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos

from atlas.contracts import StimulusItem
from atlas.randomness import RandomStreams

TEXTS = (
    "Moderate consumption of red wine protects the heart against disease in most healthy adults who "
    "drink it with their meals every day.",
    "Moderate consumption of red wine does not protect the heart, and any amount of alcohol raises the "
    "risk of several kinds of cancer.",
)


@pytest.fixture
def target():
    cache = pytest.importorskip("atlas_huggingface.cache")
    folder = cache.model_folder("smollm2-135m")
    if not folder.is_dir():
        pytest.skip("smollm2-135m is not in the cache; run: atlas models pull smollm2-135m")
    from atlas_huggingface.plugin import atlas_targets

    params = {"path": str(folder), "task": "causal-lm", "dtype": "float32", "device": "cpu"}
    opened = atlas_targets()["hf"].open({**params, "loss": {"next-token": 1.0}}, threads=2)
    torch.set_num_threads(2)
    yield opened
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.skipif(
    "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ())
    or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 14e9,
    reason="ARPACK's float32 basis and the model need 12 GB",
)
def test_eigenvalues_equal_arpacks_to_a_thousandth_of_the_norm(target):
    """ARPACK's vectors with Rayleigh quotients in float64: its own sums are float32's.

    At a residual of 1e-2 they are good to 1e-4, since errors of Rayleigh quotients are quadratic. Its
    products are first gradients differentiated as a list, on the whole batch, no micro-batch.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    items = [StimulusItem(f"claim-{i}", text) for i, text in enumerate(TEXTS)]
    small = target.batches(items, batch_size=1, max_tokens=32)
    (whole,) = target.batches(items, batch_size=2, max_tokens=32)
    with prepared(target.module) as parameters:
        operator = HessianOperator(parameters, target.loss_sum, small, retain_graph=True)
        sampler = Probes(
            RandomStreams(7), parameters.names, parameters.sizes, operator.dtype, operator.device
        )
        request = EigenRequest(top_k=3, storage=torch.float16, fresh_starts=0)
        spectrum = thick_restart_lanczos(operator, lambda i: sampler.rademacher("start", i), request)
        observed, norm = spectrum.values, spectrum.norm
        assert all(spectrum.converged)
        operator.release()
        del spectrum
        gradients = torch.autograd.grad(
            target.loss_sum(whole) / whole.weight, parameters.tensors, create_graph=True
        )

        def product(vector):
            directions = parameters.views(torch.from_numpy(np.ascontiguousarray(vector.ravel())))
            parts = torch.autograd.grad(gradients, parameters.tensors, directions, retain_graph=True)
            return torch.cat([part.flatten() for part in parts]).numpy()

        hessian = LinearOperator((operator.size,) * 2, matvec=product, dtype=np.float32)
        start = sampler.rademacher("arpack", 0).numpy()
        _, vectors = eigsh(hessian, k=3, which="LM", ncv=8, tol=1e-2, v0=start)
        expected = []
        for vector in vectors.T:
            image = product(vector)
            lengths = float(np.vdot(vector.astype(np.float64), vector.astype(np.float64)))
            expected.append(float(np.vdot(vector.astype(np.float64), image.astype(np.float64))) / lengths)
    expected.sort(key=lambda value: -abs(value))
    assert observed[:3] == pytest.approx(expected, abs=1e-3 * norm)
