"""Exactness: ours against exact float64 Hessians and prescribed spectra, with second opinions.

    python benchmarks/exactness.py [--row ID] [--quick] [--eigenthings FOLDER]

The six architectures are those of the plugin's tests, with 494 to 1,056 parameters, so that all
eigenvalues of the exact Hessian are known. Second opinions are asked for the same five eigenvalues of
largest magnitude: scipy's `eigsh` on a plain double backward, and hessian-eigenthings, where
`--eigenthings` names a folder it was installed in (`pip install --no-deps --target FOLDER
hessian-eigenthings==1.0.0a5`). `--quick` takes fewer seeds and writes to a file of its own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rows import RESULTS, result_row, versions, write

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "plugins" / "pyhessian" / "tests"
TOP_K = 5
BOUND = 1e-6


def main() -> int:
    """Measure the rows that were asked for and write them beside what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--row", help="one row's id, such as curvature.random_spectra_500")
    parser.add_argument("--quick", action="store_true", help="fewer seeds")
    parser.add_argument("--eigenthings", type=Path, help="folder that holds hessian-eigenthings")
    arguments = parser.parse_args()
    if arguments.eigenthings is not None:
        sys.path.append(str(arguments.eigenthings))
    torch.set_num_threads(1)
    wanted = [row for name, row in ROWS.items() if arguments.row in (None, name)]
    if not wanted:
        parser.error(f"no row {arguments.row!r}; rows are {', '.join(ROWS)}")
    for measure in wanted:
        row = measure(arguments.quick)
        write([row], RESULTS / ("exactness-quick.json" if arguments.quick else "exactness.json"))
        verdict = "met" if row["met"] else "MISSED"
        print(f"{row['id']}: {row['value']:.4g} {row['unit']}, target {row['target']}: {verdict}")
        print(f"  {row['what']}", flush=True)
    return 0


def _architectures() -> Any:
    spec = importlib.util.spec_from_file_location("architectures", TESTS / "architectures.py")
    assert spec is not None and spec.loader is not None  # the file is there
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _errors(values: Sequence[float], theta: torch.Tensor, *, ends: bool) -> float:
    """Return the largest error of the top magnitudes, and of both ends where asked, relative to ||H||."""
    found = torch.tensor(list(values), dtype=torch.float64)
    pairs = [
        (found.abs().sort(descending=True).values[:TOP_K], theta.abs().sort(descending=True).values[:TOP_K])
    ]
    if ends:
        pairs += [(found.max()[None], theta.max()[None]), (found.min()[None], theta.min()[None])]
    return max(float((a - b).abs().max() / theta.abs().max()) for a, b in pairs)


# Ours


def _settings(**params: Any) -> Any:
    from importlib.util import find_spec

    from atlas_pyhessian.settings import Settings

    from atlas.manifest.structure import fill

    package = find_spec("atlas_pyhessian")
    assert package is not None and package.origin is not None  # it is installed
    card = yaml.safe_load((Path(package.origin).parent / "atlas-plugin.yaml").read_text("utf-8"))
    return Settings.from_params(fill(card["provides"]["instruments"]["pyhessian"]["params"], params))


def _measured(case: Any, *, seed: int = 7, **params: Any) -> Any:
    from atlas_pyhessian.measurement import measure_curvature
    from atlas_pyhessian.operators import HessianOperator
    from atlas_pyhessian.preparation import prepared
    from atlas_pyhessian.probes import Probes

    from atlas.randomness import RandomStreams

    with prepared(case.module) as parameters:
        operator = HessianOperator(parameters, case.loss_sum, case.batches, retain_graph=True)
        probes = Probes(
            RandomStreams(seed), parameters.names, parameters.sizes, parameters.dtype, parameters.device
        )
        result = measure_curvature(
            operator, probes, _settings(**params), purpose="exactness", report=lambda *_: None
        )
        operator.release()
    return result


# Second opinions: the five eigenvalues of largest magnitude of a case


def _eigsh(case: Any) -> Sequence[float]:
    from scipy.sparse.linalg import LinearOperator, eigsh

    parameters = list(case.module.parameters())
    gradients = torch.autograd.grad(case.mean_loss(), parameters, create_graph=True, materialize_grads=True)
    sizes = [p.numel() for p in parameters]

    def product(vector: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(np.ascontiguousarray(vector).ravel())
        directions = [part.view_as(p) for part, p in zip(flat.split(sizes), parameters, strict=True)]
        parts = torch.autograd.grad(
            gradients, parameters, directions, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in parts]).numpy()

    hessian = LinearOperator((sum(sizes),) * 2, matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).choice([-1.0, 1.0], sum(sizes))
    return eigsh(hessian, k=TOP_K, which="LM", tol=1e-8, v0=start, return_eigenvectors=False).tolist()


def _eigenthings(case: Any) -> Sequence[float]:
    from hessian_eigenthings import HessianOperator, lanczos

    operator = HessianOperator(case.module, [None], lambda module, batch: case.mean_loss())
    steps = 20 * TOP_K
    found = lanczos(operator, k=TOP_K, max_iter=steps, tol=1e-8, reorthogonalize=True, seed=0)
    return found.eigenvalues.tolist()


OPINIONS: Mapping[str, tuple[str, Callable[[Any], Sequence[float]]]] = {
    "scipy": ("eigsh at tol 1e-8", _eigsh),
    "hessian-eigenthings": ("lanczos of 100 steps", _eigenthings),
}


def _opinion(name: str, cases: Mapping[str, Callable[[], Any]], thetas: Mapping[str, torch.Tensor]) -> str:
    what, ask = OPINIONS[name]
    errors, failed = {}, {}
    for case, build in cases.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                errors[case] = _errors(ask(build()), thetas[case], ends=False)
        except Exception as error:  # whatever another tool raises is its result
            failed[case] = f"{type(error).__name__}"
    if not errors:
        return f"{what}: none ({', '.join(sorted(set(failed.values())))})"
    worst = max(errors.values())
    text = f"{what}: {worst:.1e} on {len(errors)} of {len(cases)}"
    return text + (f", fails on {', '.join(failed)}" if failed else "")


# Random spectra


def spectrum_of(seed: int, bulk: int = 60) -> np.ndarray:
    """Return outliers, with pairs, exact multiplicities and clusters, over a bulk around zero."""
    rng = np.random.default_rng(seed)
    heads = rng.standard_normal(rng.integers(3, 8)) * 10 ** rng.uniform(-1, 1)
    parts = [heads, -heads[: rng.integers(0, 3)], np.repeat(heads[0], rng.integers(0, 3))]
    width = 10 ** rng.uniform(-9, -4)
    parts.append(heads[1] * (1 + width * rng.standard_normal(rng.integers(0, 3))))
    parts.append(rng.standard_normal(bulk) * np.abs(heads).max() * rng.uniform(0.01, 0.3))
    return np.concatenate(parts)


class Dense:
    """A symmetric matrix with a prescribed spectrum in random coordinates."""

    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, values: np.ndarray, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
        vectors = torch.linalg.qr(noise)[0]
        matrix = (vectors * torch.from_numpy(values)) @ vectors.T
        self.matrix, self.size, self.num_matvecs = (matrix + matrix.T) / 2, len(values), 0

    def matvec(self, vector: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product."""
        self.num_matvecs += 1
        return torch.mv(self.matrix, vector, out=out)


def _missed(seeds: Sequence[int], fresh_starts: int) -> tuple[int, float]:
    """Return how many spectra a wanted eigenvalue was missed in, and the mean number of products."""
    from atlas_pyhessian.probes import Probes
    from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos

    from atlas.randomness import RandomStreams

    missed, products = 0, 0
    for seed in seeds:
        values = spectrum_of(seed)
        operator = Dense(values, seed)
        probes = Probes(RandomStreams(0), ("all",), (operator.size,), operator.dtype, operator.device)
        request = EigenRequest(top_k=TOP_K, max_matvecs=600, fresh_starts=fresh_starts)
        found = thick_restart_lanczos(operator, lambda i, draw=probes: draw.rademacher("start", i), request)
        error = _errors(found.values, torch.from_numpy(values), ends=True)
        missed += error > 2 * request.tolerance or not all(found.converged)
        products += found.num_matvecs
    return missed, products / len(seeds)


def _missed_by_eigsh(seeds: Sequence[int]) -> int:
    from scipy.sparse.linalg import eigsh

    missed = 0
    for seed in seeds:
        values = spectrum_of(seed)
        matrix = Dense(values, seed).matrix.numpy()
        start = np.random.default_rng(seed).choice([-1.0, 1.0], len(values))
        found = eigsh(matrix, k=TOP_K, which="LM", tol=1e-3, v0=start, return_eigenvectors=False)
        missed += _errors(found.tolist(), torch.from_numpy(values), ends=False) > 2e-3
    return missed


# The rows


def exactness_6_architectures(quick: bool) -> dict[str, Any]:
    """Worst error of eigenvalues in float64."""
    library = _architectures()
    cases = dict(list(library.ARCHITECTURES.items())[: 2 if quick else None])
    thetas, worst, sizes = {}, {}, []
    for name, build in cases.items():
        case = build()
        thetas[name] = torch.linalg.eigvalsh(library.exact_hessian(case))
        sizes.append(len(thetas[name]))
        tolerance = library.TOLERANCES.get(name, 1e-8)
        result = _measured(case, tolerance=tolerance, max_matvecs=2000, trace=False)
        assert all(result.spectrum.converged), name
        worst[name] = _errors(result.spectrum.values, thetas[name], ends=True)
    opinions = {name: _opinion(name, cases, thetas) for name in OPINIONS if versions([name])}
    baseline = max(_errors(_eigsh(build()), thetas[name], ends=False) for name, build in cases.items())
    what = (
        f"{', '.join(cases)} ({min(sizes)} to {max(sizes)} parameters) in float64, tolerance 1e-8 (Llama "
        f"1e-6: its norm works in float32): worst error of the top {TOP_K} and both ends against the exact "
        f"Hessian, of ||H|| (worst: {max(worst, key=lambda name: worst[name])}); second opinions on the top "
        f"{TOP_K}: {'; '.join(opinions.values())}"
    )
    return _row(
        "curvature.exactness_6_architectures", what, max(worst.values()), baseline,
        unit="||H||", target="<= 1e-6", met=max(worst.values()) <= BOUND, n=len(cases), baseline_of="scipy",
    )  # fmt: skip


def exactness_float32(quick: bool) -> dict[str, Any]:
    """Worst error of eigenvalues in float32."""
    library = _architectures()
    worst, rounding = {}, {}
    for name, build in list(library.ARCHITECTURES.items())[: 2 if quick else None]:
        case = build()
        unrounded = torch.linalg.eigvalsh(library.exact_hessian(case))
        case.module.float().double()
        theta = torch.linalg.eigvalsh(library.exact_hessian(case))
        rounding[name] = _errors(unrounded.tolist(), theta, ends=True)
        case.module.float()
        result = _measured(case, tolerance=1e-4, max_matvecs=1000, trace=False)
        assert all(result.spectrum.converged), name
        worst[name] = _errors(result.spectrum.values, theta, ends=True)
    what = (
        f"the same six in float32, tolerance 1e-4: worst error against the exact float64 Hessian at the "
        f"rounded weights ({max(worst, key=lambda name: worst[name])}); rounding the weights alone moves the "
        "eigenvalues by the baseline"
    )
    return _row(
        "curvature.exactness_float32", what, max(worst.values()), max(rounding.values()),
        unit="||H||", target="<= 1e-5", met=max(worst.values()) <= 1e-5, n=len(worst), baseline_of="torch",
    )  # fmt: skip


def exactness_intervals(quick: bool) -> dict[str, Any]:
    """Share of trace and Frobenius intervals that hold the exact value."""
    library = _architectures()
    held, count = {"trace": 0, "frobenius_squared": 0}, 0
    for build in library.ARCHITECTURES.values():
        case = build()
        theta = torch.linalg.eigvalsh(library.exact_hessian(case))
        true = {"trace": float(theta.sum()), "frobenius_squared": float(theta.square().sum())}
        for seed in range(5 if quick else 50):
            result = _measured(case, seed=seed, trace={"max_probes": 24})
            for quantity in result.quantities:
                if quantity.quantity in held:
                    held[quantity.quantity] += quantity.low <= true[quantity.quantity] <= quantity.high
            count += 1
    shares = {name: hits / count for name, hits in held.items()}
    what = (
        f"the same six, {count // 6} seeds each, 24 probes: share of the 95% intervals that hold the exact "
        f"trace; of ||H||_F^2, {shares['frobenius_squared']:.3f}"
    )
    met = 0.93 <= shares["trace"] <= 0.985
    return _row(
        "curvature.exactness_intervals", what, shares["trace"], 0.95,
        unit="1", target="0.93 to 0.985", met=met, n=count, baseline_of="torch",
        sd=(0.95 * 0.05 / count) ** 0.5,
    )  # fmt: skip


def random_spectra_500(quick: bool) -> dict[str, Any]:
    """Spectra in which an eigenvalue was missed."""
    seeds = range(50 if quick else 500)
    (one, products), (two, more) = _missed(seeds, 1), _missed(seeds, 2)
    many, _ = _missed(range(100 if quick else 3000), 1)
    what = (
        f"{len(seeds)} random spectra of about 70 eigenvalues with pairs, multiplicities and clusters: how "
        f"many the default (one fresh start, {products:.1f} products) misses one of the top {TOP_K} or an "
        f"end in; with two fresh starts {two} ({more:.1f} products); of {100 if quick else 3000} spectra the "
        f"default misses one in {many}; baseline: eigsh at the same tolerance, one start vector"
    )
    return _row(
        "curvature.random_spectra_500", what, one, _missed_by_eigsh(seeds),
        unit="spectra", target="0", met=one == two == 0, n=len(seeds), baseline_of="scipy",
    )  # fmt: skip


ROWS: Mapping[str, Callable[[bool], dict[str, Any]]] = {
    "curvature.exactness_6_architectures": exactness_6_architectures,
    "curvature.exactness_float32": exactness_float32,
    "curvature.exactness_intervals": exactness_intervals,
    "curvature.random_spectra_500": random_spectra_500,
}


def _row(
    identifier: str,
    what: str,
    value: float,
    baseline: float,
    *,
    unit: str,
    target: str,
    met: bool,
    n: int,
    baseline_of: str,
    sd: float | None = None,
) -> dict[str, Any]:
    return result_row(
        identifier, what, value, baseline=baseline, sd=sd, n=n, unit=unit, target=target, met=met,
        baseline_version=f"{baseline_of} {importlib.metadata.version(baseline_of)}",
        packages=("atlas-pyhessian", "torch", "transformers", *OPINIONS),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
