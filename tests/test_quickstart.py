"""The newcomer's command on the real model, held against ARPACK on the same texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atlas.record import open_record
from atlas.run.stimulus import decode
from atlas.testing import Atlas

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_quickstarts_eigenvalues_equal_arpacks_to_a_thousandth_of_the_norm(tmp_path: Path) -> None:
    """Oracle: scipy's eigsh on a list of first gradients, differentiated once more on the whole batch.

    ARPACK's vectors are taken and their Rayleigh quotients summed in float64, since its own sums, like
    torch.dot's, are float32's.
    """
    atlas = Atlas(tmp_path, {})

    outcome = atlas("run", str(ROOT / "manifests" / "quickstart.yaml"))

    assert outcome.code == 0, outcome.err
    view = open_record(atlas.runs()[0])
    measured = {(q.quantity, q.index): q for _, q in view.quantities()}
    observed = [measured["eigenvalue", index].value for index in (1, 2, 3)]
    assert all(q.converged for q in measured.values())
    assert measured["condition_number", None].value is None
    peak = int(json.loads(view.read("environment/curvature.json"))["peak_memory_bytes"])
    assert peak < 8e9

    expected = _arpack(view)
    norm = abs(expected[0])
    assert observed == pytest.approx(expected, abs=1e-3 * norm)


def _arpack(view) -> list[float]:
    """Return the three eigenvalues of largest magnitude, by falling magnitude."""
    import torch
    from atlas_huggingface.plugin import atlas_targets
    from scipy.sparse.linalg import LinearOperator, eigsh

    fetched = json.loads(next(view.of("target-fetched")).data["params"])
    target = atlas_targets()["hf"].open(fetched, threads=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    parameters = list({id(p): p for p in target.module.parameters()}.values())
    items = decode(view.read("stimulus/items.jsonl"))
    (batch,) = target.batches(
        items, batch_size=len(items), max_tokens=view.manifest["stimulus"]["max_tokens"]
    )
    for parameter in parameters:
        parameter.requires_grad_(True)
    gradients = torch.autograd.grad(target.loss_sum(batch) / batch.weight, parameters, create_graph=True)
    sizes = [p.numel() for p in parameters]

    def product(vector: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(np.ascontiguousarray(vector, dtype=np.float32).ravel())
        directions = [part.view_as(p) for part, p in zip(flat.split(sizes), parameters, strict=True)]
        parts = torch.autograd.grad(gradients, parameters, directions, retain_graph=True)
        return torch.cat([part.flatten() for part in parts]).numpy()

    hessian = LinearOperator((sum(sizes),) * 2, matvec=product, dtype=np.float32)
    start = np.random.default_rng(0).choice([-1.0, 1.0], sum(sizes)).astype(np.float32)
    _, vectors = eigsh(hessian, k=3, which="LM", ncv=8, tol=1e-3, v0=start)
    values = []
    for vector in vectors.T:
        wide = vector.astype(np.float64)
        values.append(float(wide @ product(vector).astype(np.float64) / (wide @ wide)))
    torch.set_num_threads(threads)
    return sorted(values, key=lambda value: -abs(value))
