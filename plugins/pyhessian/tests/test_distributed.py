"""A measurement by several processes against the exact Hessian: real processes, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
import torch, torch.distributed as dist
from conftest import build_problem
from atlas_pyhessian import Curvature

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
problem, exact = build_problem("gpt2")
data = [{**b.inputs, "labels": b.inputs["input_ids"]} for b in problem.batches[rank::world]]
curvature = Curvature(problem.module, None, data, seed=3, group=dist.group.WORLD)
vector = torch.linspace(-1, 1, len(exact), dtype=torch.float64)
error = float(torch.linalg.norm(curvature.operator.matvec(vector) - exact @ vector))
result = curvature.spectrum(top_k=4, tolerance=1e-5)
facts = curvature.loss()
truth = torch.linalg.eigvalsh(exact)
report = {
    "error": error,
    "truth": truth[truth.abs().argsort(descending=True)][:4].tolist(),
    "values": [row["eigenvalue"] for row in result.spectrum],
    "converged": all(row["converged"] for row in result.spectrum),
    "loss": facts.loss,
    "exact loss": float(problem.mean_loss().detach()),
    "gradient": facts.gradient_norm,
    "batches": len(facts.batch_losses),
    "weight": facts.weight,
    "held": curvature._spectrum.basis.size,
}
with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
    json.dump(report, file)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_agree_with_the_exact_hessian_and_share_the_basis(tmp_path):
    """Micro-batches of 5, 3 and 2 scored tokens on two processes: weighted by tokens, not by batches.

    The loss of transformers is computed in float32, which bounds what can be certified.
    """
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*command, str(script), str(tmp_path)],
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
    )
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["error"] <= 1e-6
    assert first["converged"]
    assert first["values"] == second["values"]
    for value, true in zip(first["values"], first["truth"], strict=False):
        assert abs(value - true) <= 1e-6 * abs(first["truth"][0])
    assert abs(first["held"] - second["held"]) <= 1
    assert first["loss"] == pytest.approx(first["exact loss"], rel=1e-6)
    assert first["gradient"] == second["gradient"]
    assert (first["batches"], first["weight"]) == (3, 10.0)
