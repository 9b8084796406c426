"""Products and spectra over several processes against those of one process: real processes, over gloo."""

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
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.operators.distributed import DataParallelOperator
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.sharded_basis import ShardedBasis
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos
from atlas.randomness import RandomStreams

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
problem, exact = build_problem("gpt2")
mine = problem.batches[rank::world]
with prepared(problem.module) as parameters:
    local = HessianOperator(parameters, problem.loss_sum, mine, retain_graph=True)
    operator = DataParallelOperator(local, sum(batch.weight for batch in mine))
    vector = torch.linspace(-1, 1, operator.size, dtype=torch.float64)
    error = float(torch.linalg.norm(operator.matvec(vector) - exact @ vector))
    probes = Probes(RandomStreams(3), parameters.names, parameters.sizes, torch.float64, torch.device("cpu"))

    def make_basis(capacity, size, storage):
        return ShardedBasis(capacity, size, storage=storage, dtype=torch.float64, device=torch.device("cpu"))

    spectrum = thick_restart_lanczos(
        operator,
        lambda i: probes.rademacher("start", i),
        EigenRequest(top_k=4, tolerance=1e-8),
        make_basis=make_basis,
    )
truth = torch.linalg.eigvalsh(exact)
best = truth[truth.abs().argsort(descending=True)][:4].tolist()
with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
    json.dump({"error": error, "values": spectrum.values, "best": best, "norm": spectrum.norm,
               "converged": all(spectrum.converged), "held": spectrum.basis._rows.size}, file)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_agree_with_the_exact_hessian_and_share_the_basis(tmp_path):
    """Micro-batches of 5, 3 and 2 scored tokens on two processes: weighted by tokens, not by batches."""
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
    for value, best in zip(first["values"], first["best"], strict=False):
        assert abs(value - best) <= 1e-6 * first["norm"]
    assert abs(first["held"] - second["held"]) <= 1
