"""Curvature side by side: ours and the PyHessian library on one batch of one model, on one machine.

    python benchmarks/curvature.py [--row ID] [--quick] [--threads N]

The model is SmolLM2-135M from the user's cache (`atlas models pull smollm2-135m`); `--quick` takes a
small randomly initialised model of the same architecture instead and writes to a file of its own. Each
side runs in a process of its own: ours with the process settings that its card asks for, the library
both with them and as a user would start it. Every residual, theirs too, is verified by a product of its
own against the Rayleigh quotient of the vector, which favours a vector whose value is wrong.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
TUNED = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "OMP_WAIT_POLICY": "PASSIVE",
}
TOKENS = 64
TOP_K = 5
TOLERANCE = 1e-3
SEED = 7
TEXT = (
    "The second derivative of a loss says how quickly its slope changes when the weights move. Along a few "
    "directions it is large and along nearly all others it is close to nothing, and somewhere it is less, "
    "so that a single ratio between the largest and the smallest value describes very little of what a model "
    "has learned from all that it has read."
)


def main() -> int:
    """Run the rows that were asked for and write them beside what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--row", help="one row's id, such as curvature.products_top5")
    parser.add_argument("--quick", action="store_true", help="a small model, minutes to seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.quick, arguments.threads)))
        return 0
    sides = Sides(quick=arguments.quick, threads=arguments.threads)
    wanted = [row for name, row in ROWS.items() if arguments.row in (None, name)]
    if not wanted:
        parser.error(f"no row {arguments.row!r}; rows are {', '.join(ROWS)}")
    for measure in wanted:
        row = measure(sides)
        write([row], RESULTS / ("curvature-quick.json" if arguments.quick else "curvature.json"))
        met = "" if row["met"] is None else f"  target {row['target']}: {'met' if row['met'] else 'MISSED'}"
        print(
            f"{row['id']}: {row['value']:.4g} {row['unit']}, baseline {row['baseline']:.4g}{met}", flush=True
        )
    return 0


class Sides:
    """Runs a side once, in a process of its own, and keeps what it printed."""

    def __init__(self, *, quick: bool, threads: int) -> None:
        self.quick = quick
        self.threads = threads
        self._done: dict[tuple[str, bool], dict[str, Any]] = {}

    def __call__(self, side: str, *, tuned: bool) -> dict[str, Any]:
        """Return the side's figures."""
        if (side, tuned) not in self._done:
            command = [sys.executable, __file__, "--side", side, "--threads", str(self.threads)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "HF_HUB_OFFLINE": "1"}
            ended = subprocess.run(
                command + (["--quick"] if self.quick else []),
                env=environment | (TUNED if tuned else {}),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            self._done[side, tuned] = json.loads(ended.stdout.splitlines()[-1])
        return self._done[side, tuned]


# The sides, each in its own process


def _operator(quick: bool, threads: int) -> tuple[Any, Any, Any, Any]:
    import torch
    import transformers
    from atlas_pyhessian.preparation import prepared

    from atlas.contracts import Batch

    torch.set_num_threads(threads)
    if quick:
        torch.manual_seed(SEED)
        config = transformers.LlamaConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            initializer_range=0.1,
            bos_token_id=0,
            eos_token_id=1,
        )
        module = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        ids = torch.randint(0, 512, (1, TOKENS))
    else:
        from atlas_huggingface.cache import model_folder

        folder = model_folder("smollm2-135m")
        if not folder.is_dir():
            raise SystemExit("the model is missing; run: atlas models pull smollm2-135m")
        module = transformers.AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(TEXT, return_tensors="pt").input_ids[:, :TOKENS]
    batch = Batch({"input_ids": ids}, float(ids.shape[1] - 1))

    def loss_sum(given: Batch) -> torch.Tensor:
        tokens = given.inputs["input_ids"]
        logits = module(input_ids=tokens, use_cache=False).logits[:, :-1].float()
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"
        )

    return module, batch, loss_sum, prepared


def _seconds(action: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def _product_seconds(action: Callable[[], object], repeats: int = 5) -> list[float]:
    action()
    return [_seconds(action)[1] for _ in range(repeats)]


def ours(quick: bool, threads: int) -> dict[str, Any]:
    """Certified top-5 with our engine; the work of one product."""
    import torch
    from atlas_pyhessian.operators import HessianOperator
    from atlas_pyhessian.probes import Probes
    from atlas_pyhessian.wu2000thickrestart import EigenRequest, Spectrum, thick_restart_lanczos

    from atlas.randomness import RandomStreams

    module, batch, loss_sum, prepared = _operator(quick, threads)
    found: list[Spectrum] = []
    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, [batch], retain_graph=True)
        probes = Probes(
            RandomStreams(SEED), parameters.names, parameters.sizes, operator.dtype, operator.device
        )
        request = EigenRequest(
            top_k=TOP_K,
            ends=1,
            tolerance=TOLERANCE,
            storage=torch.float32 if quick else torch.float16,
            fresh_starts=0,
        )

        def solve() -> None:
            found.append(thick_restart_lanczos(operator, lambda i: probes.rademacher("start", i), request))

        wall, cpu = _seconds(solve)
        vector = probes.rademacher("timing", 0)
        product = _product_seconds(lambda: operator.matvec(vector))
    spectrum = found[0]
    return {
        "values": spectrum.values,
        "residuals": [r / spectrum.norm for r in spectrum.residual_norms],
        "converged": all(spectrum.converged),
        "matvecs": spectrum.num_matvecs,
        "wall": wall,
        "cpu": cpu,
        "product_cpu": product,
    }


def library(quick: bool, threads: int) -> dict[str, Any]:
    """Top-5 with the library as shipped (tolerance 1e-3), its vectors' residuals verified afterwards."""
    import torch
    from atlas_pyhessian import reductions
    from atlas_pyhessian.library import run_library
    from atlas_pyhessian.operators import HessianOperator

    module, batch, loss_sum, prepared = _operator(quick, threads)
    found = []
    with prepared(module) as parameters:

        def solve() -> None:
            found.append(
                run_library(
                    module,
                    parameters,
                    loss_sum,
                    [batch],
                    top_k=TOP_K,
                    max_probes=None,
                    max_iterations=100,
                    seed=SEED,
                )
            )

        wall, cpu = _seconds(solve)
        result = found[0]
        operator = HessianOperator(parameters, loss_sum, [batch], retain_graph=True)
        norm = max(abs(value) for value in result.values)
        residuals = []
        for vector in result.vectors:
            unit = vector / reductions.norm(vector)
            image = operator.matvec(unit)
            residuals.append(reductions.norm(image - reductions.dot(unit, image) * unit) / norm)
        operator.release()
        gradients = torch.autograd.grad(loss_sum(batch) / batch.weight, parameters.tensors, create_graph=True)
        direction = [torch.ones_like(p) for p in parameters.tensors]
        product = _product_seconds(
            lambda: torch.autograd.grad(
                gradients, parameters.tensors, grad_outputs=direction, retain_graph=True
            )
        )
    return {
        "values": result.values,
        "residuals": residuals,
        "matvecs": result.eigenvalue_matvecs,
        "wall": wall,
        "cpu": cpu,
        "product_cpu": product,
    }


def sums(quick: bool, threads: int) -> dict[str, Any]:
    """Relative errors of squared norms and dots of a long float32 vector."""
    import torch
    from atlas_pyhessian import reductions

    torch.set_num_threads(threads)
    size = 10_000_000 if quick else 134_515_008
    vector = torch.randn(size, generator=torch.Generator().manual_seed(SEED))
    exact = sum(float(part.double().square().sum()) for part in vector.split(1 << 22))
    return {
        "ours": abs(reductions.dot(vector, vector) / exact - 1),
        "dot": abs(float(torch.dot(vector, vector)) / exact - 1),
        "vector_norm": abs(float(torch.linalg.vector_norm(vector)) ** 2 / exact - 1),
    }


SIDES: Mapping[str, Callable[[bool, int], dict[str, Any]]] = {
    "ours": ours,
    "library": library,
    "sums": sums,
}


# The rows


def _row(
    identifier: str,
    what: str,
    value: float,
    baseline: float,
    sides: Sides,
    *,
    unit: str,
    target: str,
    met: bool | None,
    sd: float | None = None,
    n: int = 1,
    baseline_version: str | None = None,
) -> dict[str, Any]:
    return {
        "id": identifier,
        "what": what,
        "value": value,
        "sd": sd,
        "n": n,
        "unit": unit,
        "baseline": baseline,
        "baseline_version": baseline_version or f"PyHessian {importlib.metadata.version('PyHessian')}",
        "target": target,
        "met": met,
        "machine": f"{platform.machine()}, {sides.threads} threads, {platform.system()}",
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("atlas-pyhessian", "torch", "transformers", "PyHessian")
        },
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _model(sides: Sides) -> str:
    return "small random Llama" if sides.quick else "SmolLM2-135M"


def products_top5(sides: Sides) -> dict[str, Any]:
    """Products, verification included."""
    mine, theirs = sides("ours", tuned=True), sides("library", tuned=False)
    met = mine["matvecs"] <= 25 and mine["converged"] and theirs["matvecs"] >= 3 * mine["matvecs"]
    what = (
        f"{_model(sides)}, 1x{TOKENS} tokens: products for the top 5 and both ends at verified residuals "
        f"<= {TOLERANCE:g} of ||H|| (worst {max(mine['residuals']):.1e}); the library as shipped, worst "
        f"residual {max(theirs['residuals']):.1e}"
    )
    return _row(
        "curvature.products_top5", what, mine["matvecs"], theirs["matvecs"], sides,
        unit="products", target="<= 25, and <= 1/3 of the library's", met=None if sides.quick else met,
    )  # fmt: skip


def residual_top5(sides: Sides) -> dict[str, Any]:
    """Worst verified residual, relative to ||H||."""
    mine, theirs = sides("ours", tuned=True), sides("library", tuned=False)
    return _row(
        "curvature.residual_top5",
        f"{_model(sides)}, 1x{TOKENS} tokens: worst verified residual of the top 5, relative to ||H||",
        max(mine["residuals"]), max(theirs["residuals"]), sides,
        unit="1", target=f"<= {TOLERANCE:g}", met=max(mine["residuals"]) <= TOLERANCE,
    )  # fmt: skip


def seconds_top5(sides: Sides) -> dict[str, Any]:
    """Wall seconds, the library started as a user starts it."""
    mine, theirs = sides("ours", tuned=True), sides("library", tuned=False)
    return _row(
        "curvature.seconds_top5",
        f"{_model(sides)}, 1x{TOKENS} tokens: wall seconds for the top 5, verification included on our side "
        f"only; with our process settings the library took {sides('library', tuned=True)['wall']:.1f} s",
        mine["wall"], theirs["wall"], sides,
        unit="s", target="<= 1/4 of the library's",
        met=None if sides.quick else mine["wall"] <= theirs["wall"] / 4,
    )  # fmt: skip


def product_cpu(sides: Sides) -> dict[str, Any]:
    """CPU seconds of one product under equal process settings."""
    import statistics

    mine, theirs = (sides(side, tuned=True)["product_cpu"] for side in ("ours", "library"))
    value, baseline = statistics.median(mine), statistics.median(theirs)
    return _row(
        "curvature.product_cpu",
        f"{_model(sides)}, 1x{TOKENS} tokens: CPU seconds of one product on a retained graph, both with our "
        "process settings (median)",
        value, baseline, sides, unit="s", target="<= 0.95 of the library's",
        met=None if sides.quick else value <= 0.95 * baseline, sd=statistics.stdev(mine), n=len(mine),
    )  # fmt: skip


def float32_sums(sides: Sides) -> dict[str, Any]:
    """The trap of float32 reductions that peers fall into."""
    errors = sides("sums", tuned=False)
    return _row(
        "curvature.float32_sums",
        "relative error of a squared norm of a float32 vector as long as the model: ours, and the larger "
        f"one of torch.dot ({errors['dot']:.1e}) and torch.linalg.vector_norm ({errors['vector_norm']:.1e})",
        errors["ours"], max(errors["dot"], errors["vector_norm"]), sides,
        unit="1", target="<= 1e-9", met=errors["ours"] <= 1e-9,
        baseline_version=f"torch {importlib.metadata.version('torch')}",
    )  # fmt: skip


ROWS: Mapping[str, Callable[[Sides], dict[str, Any]]] = {
    "curvature.float32_sums": float32_sums,
    "curvature.products_top5": products_top5,
    "curvature.residual_top5": residual_top5,
    "curvature.product_cpu": product_cpu,
    "curvature.seconds_top5": seconds_top5,
}


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows, those of the same id replaced, the others kept."""
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else []
    fresh = {row["id"]: row for row in rows}
    merged = [fresh.pop(row["id"], row) for row in kept] + list(fresh.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merged, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
