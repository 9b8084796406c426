"""Curvature side by side: ours and its peers on one batch of one model, on one machine.

    python benchmarks/curvature.py [--row ID] [--quick] [--threads N] [--head FOLDER] [--eigenthings FOLDER]

The model is SmolLM2-135M from the user's cache (`atlas models pull smollm2-135m`); `--quick` takes a
small randomly initialised model of the same architecture instead and writes to a file of its own. Each
side runs in a process of its own: ours with the process settings that its card asks for and the loss of
our `hf` targets, the others as a user would start them, with torch's cross-entropy. Every residual, theirs
too, is verified by a product of its own against the Rayleigh quotient of the vector, which favours a vector
whose value is wrong. `--head` names a folder that holds the package `pyhessian` of the repository's last
commit, whose density still runs; `--eigenthings` one that holds hessian-eigenthings, installed with
`pip install --no-deps --target FOLDER hessian-eigenthings==1.0.0a5`. Without them their rows are left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rows import RESULTS, result_row, write

TUNED = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "GOMP_SPINCOUNT": "10000",
}
TOKENS = 64
TOP_K = 5
TOLERANCE = 1e-3
BASIS = 20
JOB_BASIS = 12
DENSITY = (4, 16)
TRACE_PROBES = 32
POWER_CAP = 230
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
    parser.add_argument("--head", type=Path, help="folder that holds pyhessian of the last commit")
    parser.add_argument("--eigenthings", type=Path, help="folder that holds hessian-eigenthings")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.quick, arguments.threads)))
        return 0
    folders = {"head": arguments.head, "eigenthings": arguments.eigenthings}
    sides = Sides(
        quick=arguments.quick,
        threads=arguments.threads,
        folders={name: folder for name, folder in folders.items() if folder is not None},
    )
    left_out = {NEEDS[name] for name in NEEDS} - set(sides.folders)
    rows = {name: row for name, row in ROWS.items() if NEEDS.get(name) not in left_out}
    wanted = [row for name, row in rows.items() if arguments.row in (None, name)]
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

    def __init__(self, *, quick: bool, threads: int, folders: Mapping[str, Path]) -> None:
        self.quick = quick
        self.threads = threads
        self.folders = folders
        self._done: dict[tuple[str, bool], dict[str, Any]] = {}

    def __call__(self, side: str, *, tuned: bool, threads: int | None = None) -> dict[str, Any]:
        """Return the side's figures; a side named after a folder imports from there first."""
        if (side, tuned) not in self._done:
            count = str(threads or self.threads)
            command = [sys.executable, __file__, "--side", side, "--threads", count]
            environment = {**os.environ, "OMP_NUM_THREADS": count, "HF_HUB_OFFLINE": "1"}
            if (folder := self.folders.get(side.partition("_")[0])) is not None:
                environment["PYTHONPATH"] = str(folder)
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


def _operator(quick: bool, threads: int, *, items: int = 1, plain: bool = True) -> tuple[Any, Any, Any, Any]:
    import torch
    import transformers
    from atlas_huggingface.cross_entropy import cross_entropy_sum
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
    ids = torch.cat([ids.roll(shift, 1) for shift in range(items)])
    batch = Batch({"input_ids": ids}, float(ids[:, 1:].numel()))

    def loss_sum(given: Batch) -> torch.Tensor:
        tokens = given.inputs["input_ids"]
        logits = module(input_ids=tokens, use_cache=False).logits[:, :-1].flatten(0, 1)
        targets = tokens[:, 1:].flatten()
        if plain:
            return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        return cross_entropy_sum(logits, targets, ignore_index=-100)

    return module, batch, loss_sum, prepared


def _seconds(action: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def _product_seconds(action: Callable[[], object], repeats: int = 5) -> list[float]:
    action()
    return [_seconds(action)[1] for _ in range(repeats)]


def ours(quick: bool, threads: int) -> dict[str, Any]:
    """Certified top-5 with our engine; each residual is computed again afterwards, by a product."""
    import torch
    from atlas_pyhessian import reductions
    from atlas_pyhessian.operators import HessianOperator
    from atlas_pyhessian.wu2000thickrestart import EigenRequest, Spectrum, thick_restart_lanczos

    module, batch, loss_sum, prepared = _operator(quick, threads, plain=False)
    found: list[Spectrum] = []
    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, [batch], retain_graph=True)
        probes = _probes(parameters)
        request = EigenRequest(
            top_k=TOP_K,
            ends=1,
            tolerance=TOLERANCE,
            storage=torch.float32,
            basis_size=BASIS,
            fresh_starts=0,
        )

        def solve() -> None:
            found.append(thick_restart_lanczos(operator, lambda i: probes.rademacher("start", i), request))

        wall, cpu = _seconds(solve)
        spectrum, residuals = found[0], []
        for position, value in enumerate(spectrum.ritz_values[: spectrum.num_verified]):
            vector = spectrum.basis.vector(position)
            image = operator.matvec(vector)
            residuals.append(reductions.norm(torch.sub(image, vector, alpha=value)) / spectrum.norm)
    return {
        "values": spectrum.values,
        "residuals": residuals,
        "claimed": [r / spectrum.norm for r in spectrum.residual_norms],
        "converged": all(spectrum.converged),
        "matvecs": spectrum.num_matvecs,
        "wall": wall,
        "cpu": cpu,
    }


def _probes(parameters: Any) -> Any:
    from atlas_pyhessian.probes import Probes

    from atlas.randomness import RandomStreams

    names, sizes = parameters.names, parameters.sizes
    return Probes(RandomStreams(SEED), names, sizes, parameters.dtype, parameters.device)


def job(quick: bool, threads: int) -> dict[str, Any]:
    """The whole job with our engine: eigenvalues, trace, density and condition, each with its bound."""
    from atlas_pyhessian.card_params import card_params
    from atlas_pyhessian.measurement import measure_curvature
    from atlas_pyhessian.operators import HessianOperator
    from atlas_pyhessian.settings import Settings

    module, batch, loss_sum, prepared = _operator(quick, threads, plain=False)
    asked = {
        "top_k": TOP_K,
        "tolerance": TOLERANCE,
        "basis": {"size": JOB_BASIS, "dtype": "float32"},
        "trace": {"rel_se": 0.02, "max_probes": TRACE_PROBES},
        "density": {"probes": DENSITY[0], "steps": DENSITY[1]},
    }
    found: list[Any] = []
    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, [batch], retain_graph=True)

        def measure() -> None:
            settings = Settings.from_params(card_params(asked))
            found.append(
                measure_curvature(
                    operator,
                    _probes(parameters),
                    settings,
                    purpose="benchmark",
                    report=lambda what, products, error: None,
                )
            )

        wall, cpu = _seconds(measure)
    measurement = found[0]
    trace = measurement.trace
    return {
        "wall": wall,
        "cpu": cpu,
        "matvecs": operator.num_matvecs,
        "converged": all(measurement.spectrum.converged),
        "values": measurement.spectrum.values,
        "trace": trace.trace.value,
        "trace_se": trace.trace.standard_error,
        "trace_probes": trace.trace.num_samples,
        "without_bound": sum(q.value is not None and q.uncertainty is None for q in measurement.quantities),
    }


def head_job(quick: bool, threads: int) -> dict[str, Any]:
    """The whole job with the last commit of the PyHessian library: eigenvalues, trace and density."""
    import importlib
    import itertools

    import torch

    module, batch, loss_sum, prepared = _operator(quick, threads)
    library = importlib.import_module("pyhessian.hessian")
    count = itertools.count()
    product = library.hessian_vector_product

    def counted(*given: Any) -> Any:
        next(count)
        return product(*given)

    library.hessian_vector_product = counted
    phases: dict[str, float] = {}
    with prepared(module):
        torch.manual_seed(SEED)
        started = time.perf_counter()
        tokens = batch.inputs["input_ids"]
        made = library.hessian(
            module, lambda _, given: loss_sum(batch) / batch.weight, data=(tokens, tokens), cuda=False
        )
        for name, action in (
            ("eigenvalues", lambda: made.eigenvalues(maxIter=100, tol=TOLERANCE, top_n=TOP_K)[0]),
            ("trace", lambda: made.trace(maxIter=100, tol=TOLERANCE)),
            ("density", lambda: made.density(iter=DENSITY[1], n_v=DENSITY[0])),
        ):
            action()
            phases[name] = time.perf_counter() - started
    return {"wall": phases["density"], "phases": phases, "matvecs": next(count)}


def power(quick: bool, threads: int) -> dict[str, Any]:
    """Deflated power iteration until each residual is as small as ours, at most `POWER_CAP` products.

    A residual must be small beside the value too: nearly every vector is nearly in the kernel, and a random
    one has a residual below 1e-3 of ||H|| from the start.
    """
    import torch
    from atlas_pyhessian import reductions
    from atlas_pyhessian.operators import HessianOperator

    module, batch, loss_sum, prepared = _operator(quick, threads, plain=False)
    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, [batch], retain_graph=True)
        probes, known, norm = _probes(parameters), [], 0.0
        for index in range(TOP_K):
            vector = probes.rademacher("power", index)
            while operator.num_matvecs < POWER_CAP:
                for _, other in known:
                    vector.sub_(other, alpha=reductions.dot(other, vector))
                vector /= reductions.norm(vector)
                image = operator.matvec(vector)
                value = reductions.dot(vector, image)
                norm = max(norm, abs(value))
                residual = reductions.norm(torch.sub(image, vector, alpha=value))
                if residual <= TOLERANCE * norm and residual <= 0.1 * abs(value):
                    known.append((value, vector))
                    break
                vector = image
            else:
                break
    return {"matvecs": operator.num_matvecs, "values": [value for value, _ in known]}


def product_ours(quick: bool, threads: int) -> dict[str, Any]:
    """CPU seconds of one of our products, four items."""
    from atlas_pyhessian.operators import HessianOperator

    module, batch, loss_sum, prepared = _operator(quick, threads, items=4, plain=False)
    with prepared(module) as parameters:
        operator = HessianOperator(parameters, loss_sum, [batch], retain_graph=True)
        vector = _probes(parameters).rademacher("timing", 0)
        out = vector.clone()
        return {"product_cpu": _product_seconds(lambda: operator.matvec(vector, out=out))}


def product_library(quick: bool, threads: int) -> dict[str, Any]:
    """CPU seconds of one product as the PyHessian library computes it, four items."""
    import torch
    from pyhessian.utils import hessian_vector_product

    module, batch, loss_sum, prepared = _operator(quick, threads, items=4)
    with prepared(module) as parameters:
        loss = loss_sum(batch) / batch.weight
        gradients = torch.autograd.grad(loss, parameters.tensors, create_graph=True)
        direction = [torch.randn_like(p) for p in parameters.tensors]
        return {
            "product_cpu": _product_seconds(
                lambda: hessian_vector_product(gradients, parameters.tensors, direction)
            )
        }


def eigenthings_product(quick: bool, threads: int) -> dict[str, Any]:
    """CPU seconds of one product of hessian-eigenthings, four items."""
    from hessian_eigenthings import HessianOperator

    module, batch, loss_sum, prepared = _operator(quick, threads, items=4)
    with prepared(module) as parameters:
        operator = HessianOperator(
            module, [batch.inputs], lambda model, given: loss_sum(batch) / batch.weight
        )
        vector = _probes(parameters).rademacher("timing", 0)
        return {"product_cpu": _product_seconds(lambda: operator.matvec(vector))}


def library(quick: bool, threads: int) -> dict[str, Any]:
    """Top-5 with the library as shipped (tolerance 1e-3), its vectors' residuals verified afterwards."""
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
    return {
        "values": result.values,
        "residuals": residuals,
        "matvecs": result.eigenvalue_matvecs,
        "wall": wall,
        "cpu": cpu,
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
    "job": job,
    "head_job": head_job,
    "power": power,
    "product_ours": product_ours,
    "product_library": product_library,
    "eigenthings_product": eigenthings_product,
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
    return result_row(
        identifier, what, value, baseline=baseline, sd=sd, n=n, unit=unit, target=target, met=met,
        baseline_version=baseline_version or f"PyHessian {importlib.metadata.version('PyHessian')}",
        threads=f"{sides.threads} threads",
        packages=("atlas-pyhessian", "torch", "transformers", "PyHessian"),
    )  # fmt: skip


def _model(sides: Sides) -> str:
    return "small random Llama" if sides.quick else "SmolLM2-135M"


def products_top5(sides: Sides) -> dict[str, Any]:
    """Products to certified pairs."""
    mine, theirs = sides("ours", tuned=True), sides("library", tuned=False)
    met = mine["matvecs"] <= 25 and mine["converged"] and theirs["matvecs"] >= 3 * mine["matvecs"]
    what = (
        f"{_model(sides)}, 1x{TOKENS} tokens: products for the top 5 and both ends, certified by the "
        f"recurrence at residuals <= {max(mine['claimed']):.1e} of ||H|| with {BASIS} float32 vectors kept; "
        f"a product each afterwards, not counted, gave {max(mine['residuals']):.1e}, and for the library as "
        f"shipped {max(theirs['residuals']):.1e}"
    )
    return _row(
        "curvature.products_top5", what, mine["matvecs"], theirs["matvecs"], sides,
        unit="products", target="<= 25, and <= 1/3 of the library's", met=None if sides.quick else met,
    )  # fmt: skip


def residual_top5(sides: Sides) -> dict[str, Any]:
    """Worst residual by a product each, relative to ||H||."""
    mine, theirs = sides("ours", tuned=True), sides("library", tuned=False)
    return _row(
        "curvature.residual_top5",
        f"{_model(sides)}, 1x{TOKENS} tokens: worst residual of the top 5 by a product each, over ||H||",
        max(mine["residuals"]), max(theirs["residuals"]), sides,
        unit="1", target=f"<= {TOLERANCE:g}", met=max(mine["residuals"]) <= TOLERANCE,
    )  # fmt: skip


def seconds_top5(sides: Sides) -> dict[str, Any]:
    """Wall seconds, the library started as a user starts it."""
    mine, theirs = sides("ours", tuned=True), sides("library", tuned=False)
    return _row(
        "curvature.seconds_top5",
        f"{_model(sides)}, 1x{TOKENS} tokens: wall seconds for the top 5, on our side with certificates",
        mine["wall"], theirs["wall"], sides,
        unit="s", target="<= 1/4 of the library's",
        met=None if sides.quick else mine["wall"] <= theirs["wall"] / 4,
    )  # fmt: skip


def products_power(sides: Sides) -> dict[str, Any]:
    """Products of power iteration to the same residual."""
    mine, theirs = sides("ours", tuned=True), sides("power", tuned=True)
    found = len(theirs["values"])
    what = (
        f"{_model(sides)}, 1x{TOKENS} tokens: products for the top {TOP_K} at residuals <= {TOLERANCE:g} of "
        f"||H||; deflated power iteration had {found} of them when it was stopped"
        if found < TOP_K
        else f"{_model(sides)}, 1x{TOKENS} tokens: products for the top {TOP_K} at equal residual"
    )
    return _row(
        "curvature.products_power", what, mine["matvecs"], theirs["matvecs"], sides,
        unit="products", target="<= 1/7 of power iteration's", baseline_version="power iteration, as here",
        met=None if sides.quick else theirs["matvecs"] >= 7 * mine["matvecs"],
    )  # fmt: skip


def whole_job(sides: Sides) -> dict[str, Any]:
    """Wall seconds of everything."""
    mine, theirs = sides("job", tuned=True), sides("head_job", tuned=False)
    phases = ", ".join(f"{name} at {at:.0f} s" for name, at in theirs["phases"].items())
    what = (
        f"{_model(sides)}, 1x{TOKENS} tokens: wall seconds for the top {TOP_K}, both ends, trace "
        f"{mine['trace']:.4g} +- {mine['trace_se']:.2g} ({mine['trace_probes']} probes, of {TRACE_PROBES} "
        f"at most, 2% asked for), density of {DENSITY[0]} probes of {DENSITY[1]} steps and condition, in "
        f"{mine['matvecs']} products, {mine['without_bound']} numbers without a bound; the library's last "
        f"commit had {phases}, in {theirs['matvecs']} products, no number with a bound"
    )
    return _row(
        "curvature.whole_job", what, mine["wall"], theirs["wall"], sides,
        unit="s", target="<= 1/3 of the library's", baseline_version="PyHessian de8cf23",
        met=None if sides.quick else mine["wall"] <= theirs["wall"] / 3 and not mine["without_bound"],
    )  # fmt: skip


def product_cpu(sides: Sides) -> dict[str, Any]:
    """CPU seconds of one product, the library's started as a user starts it."""
    mine = sides("product_ours", tuned=True, threads=1)["product_cpu"]
    theirs = statistics.median(sides("product_library", tuned=False, threads=1)["product_cpu"])
    equal = statistics.median(sides("product_library", tuned=True, threads=1)["product_cpu"])
    value = statistics.median(mine)
    what = (
        f"{_model(sides)}, 4x{TOKENS} tokens, 1 thread: CPU seconds of one product on a retained graph "
        f"(median); with our process settings the library's takes {equal:.2f} s, {value / equal:.2f}x"
    )
    return _row(
        "curvature.product_cpu", what, value, theirs, sides, unit="s", target="<= 0.95 of the library's",
        met=None if sides.quick else value <= 0.95 * theirs, sd=statistics.stdev(mine), n=len(mine),
    )  # fmt: skip


def product_cpu_eigenthings(sides: Sides) -> dict[str, Any]:
    """CPU seconds of one product against hessian-eigenthings."""
    mine = sides("product_ours", tuned=True, threads=1)["product_cpu"]
    theirs = statistics.median(sides("eigenthings_product", tuned=False, threads=1)["product_cpu"])
    value = statistics.median(mine)
    return _row(
        "curvature.product_cpu_eigenthings",
        f"{_model(sides)}, 4x{TOKENS} tokens, 1 thread: CPU seconds of one product (median); theirs builds "
        "the graph anew each time",
        value, theirs, sides, unit="s", target="<= 0.62 of theirs",
        baseline_version="hessian-eigenthings 1.0.0a5",
        met=None if sides.quick else value <= 0.62 * theirs, sd=statistics.stdev(mine), n=len(mine),
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
    "curvature.product_cpu_eigenthings": product_cpu_eigenthings,
    "curvature.seconds_top5": seconds_top5,
    "curvature.whole_job": whole_job,
    "curvature.products_power": products_power,
}

NEEDS = {"curvature.whole_job": "head", "curvature.product_cpu_eigenthings": "eigenthings"}
"""Rows that need a folder of a peer."""


if __name__ == "__main__":
    sys.exit(main())
