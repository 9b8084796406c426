"""Quality of trained TopoEncoders beside plain baselines, on the same split, seeds and number of steps.

    python benchmarks/topoencoder_quality.py measure DATA [--seed N ...] [--side ours|plain|supervised|seed]
    python benchmarks/topoencoder_quality.py ablate DATA [--term NAME ...] [--seed N ...]
    python benchmarks/topoencoder_quality.py rows
    python benchmarks/topoencoder_quality.py table

DATA is digits or mnist-5k. `measure` and `ablate` train and keep what came out, a file a training, below
results/topoencoder/; `rows` writes the result rows from these files and `table` prints the ablation. The
split is that of seed 7 (80 to 20); seeds are those of weights, orders and views. The baselines are
autoencoders of equal width with 16 numbers, whose latents k-means divides, and with 32, which is as many as
point and texture have; an autoencoder with one codebook of as many codes; and k-means, Ward and spectral
clustering of the pixels. Clusterings of pixels see all examples, as some cannot place new ones; all others
are measured on held-out ones. The side `seed` is manifests/topoencoder-seed-terms.yaml on DATA.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from atlas_topoencoder.batches import BatchOrder
from atlas_topoencoder.data import Dataset, Split, load, split
from atlas_topoencoder.devices import open_device
from atlas_topoencoder.instrument import objective_of, training_of
from atlas_topoencoder.losses.terms import TERMS
from atlas_topoencoder.metrics import (
    hungarian_accuracy,
    measure,
    mutual_information,
    perplexity,
    purity,
    read,
)
from atlas_topoencoder.probing import probe
from rows import RESULTS, result_row, versions, write
from torch import nn
from torch.nn import functional

from atlas.randomness import RandomStreams

ROOT = Path(__file__).resolve().parent.parent
KEPT = RESULTS / "topoencoder"
PACKAGES = ("atlas-topoencoder", "torch", "scikit-learn")
SEEDS = (0, 1, 2)
SHORT = 1000
"""Steps of a training of the ablation."""

SUPERVISED = {"supervised-route": 1.0, "supervised-purity": 0.1, "supervised-metric": 0.1, "orbit": 1.0}
"""Weights of a training that sees the labels, besides the default ones; charts are placed by class."""

Figures = dict[str, float]


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("measure", "ablate", "rows", "table"))
    parser.add_argument("data", nargs="?", choices=("digits", "mnist-5k"))
    parser.add_argument("--seed", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--term", nargs="*", default=None)
    parser.add_argument("--side", choices=tuple(SIDES), default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "rows":
        write(result_rows(), RESULTS / "topoencoder-quality.json")
    elif arguments.what == "table":
        print(ablation_table())
    elif arguments.what == "measure":
        for seed in arguments.seed:
            for side in (arguments.side,) if arguments.side else SIDES:
                _keep(f"{arguments.data}-{side}-{seed}", SIDES[side](arguments.data, seed))
    else:
        active = [name for name, term in TERMS.items() if term.default_weight and name != "reconstruction"]
        for seed in arguments.seed:
            for name in arguments.term or ["none", *active]:
                changed = {} if name == "none" else {name: 0.0 if name in active else added(name)}
                found = ours(arguments.data, seed, changed, steps=SHORT)
                _keep(f"{arguments.data}-ablation-{name}-{seed}", found)


def added(name: str) -> float:
    """Return the weight with which the ablation adds a term that is off by default: the seed's."""
    from atlas_topoencoder.losses.terms import SEED_WEIGHTS

    return SEED_WEIGHTS[name]


def opened(data: str) -> tuple[Dataset, Split]:
    """Return a data set and its split."""
    random = RandomStreams(7)
    dataset = load({"use": data}, random=random, scratch=Path(tempfile.mkdtemp()))
    return dataset, split(dataset, 0.2, random)


def manifest_params(data: str, name: str | None = None) -> dict[str, Any]:
    """Return the parameters of a manifest with the card's defaults; the data set's own manifest if None."""
    from atlas.manifest.structure import fill

    card = yaml.safe_load((ROOT / "plugins/topoencoder/src/atlas_topoencoder/atlas-plugin.yaml").read_text())
    name = name or {"digits": "digits", "mnist-5k": "mnist"}[data]
    manifest = yaml.safe_load((ROOT / f"manifests/topoencoder-{name}.yaml").read_text())
    schema = card["provides"]["instruments"]["topoencoder"]["params"]
    params: dict[str, Any] = fill(schema, manifest["steps"][0]["params"])
    return params


def ours(
    data: str,
    seed: int,
    changed: Mapping[str, float] | None = None,
    steps: int | None = None,
    placing: str | None = None,
) -> Figures:
    """Train as the manifest says, with some weights changed, and return what was measured."""
    params = manifest_params(data)
    weights = {name: term.default_weight for name, term in TERMS.items()} | params["loss"] | (changed or {})
    if placing is not None:
        params["schedule"]["placing"] = placing
    if steps is not None:
        params["schedule"] |= {"steps": steps, "warmup": min(params["schedule"]["warmup"], steps // 3)}
    return trained(data, seed, params, weights)


def trained(data: str, seed: int, params: Mapping[str, Any], weights: Mapping[str, float]) -> Figures:
    """Train with parameters of the instrument and weights of the loss, and return what was measured."""
    dataset, parts = opened(data)
    device = open_device("cpu", "float32")
    objective = objective_of({name: weight for name, weight in weights.items() if weight})
    training = training_of(params, dataset, parts, objective, RandomStreams(seed), device)
    began = time.process_time()
    while training.step < training.schedule.steps:
        value = training.advance()
    training.checked(value)
    spent = time.process_time() - began
    test, known = (read(training.model, dataset, rows, device.device) for rows in (parts.test, parts.train))
    generator = np.random.default_rng(0)
    found = measure(test, known, classes=len(dataset.classes), generator=generator, resamples=2)
    found += probe(test, known, classes=len(dataset.classes))
    figures = {m.name: m.value for m in found if m.value is not None}
    return figures | {"seconds": spent, "steps": float(training.schedule.steps)}


def supervised(data: str, seed: int) -> Figures:
    """Train with the supervised terms besides, a chart placed on each class."""
    return ours(data, seed, SUPERVISED, placing="labels")


def of_the_seed(data: str, seed: int) -> Figures:
    """Train with the seed's full set of terms, as its manifest says."""
    params = manifest_params(data, "seed-terms")
    return trained(data, seed, params, params["loss"])


class Plain(nn.Module):
    """An autoencoder of two hidden layers on each side, with a codebook where `codes` is not 0."""

    def __init__(self, size: int, codes: int, width: int = 256, latent: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(size, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, size)
        )
        self.register_buffer("codes", torch.zeros(codes, latent))
        self.codes: torch.Tensor

    def choose(self, z: torch.Tensor) -> torch.Tensor:
        """Return the nearest code of each latent."""
        return torch.cdist(z, self.codes).argmin(1)


def train_plain(
    data: str, seed: int, codes: int, latent: int = 16
) -> tuple[Plain, np.ndarray, np.ndarray, Dataset, Split]:
    """Train a plain autoencoder for as many steps, with batches and rates as ours has them.

    Codes are placed by k-means after a quarter of the steps and follow the mean of what chooses them
    (van den Oord et al. 2017, appendix A.1), those that nothing chooses moved to a random latent.
    """
    from sklearn.cluster import KMeans

    params = manifest_params(data)["schedule"]
    dataset, parts = opened(data)
    x = torch.from_numpy(dataset.take(parts.train)).flatten(1)
    torch.manual_seed(seed)
    model = Plain(x.shape[1], codes, latent=latent)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, fused=True)
    order = BatchOrder(np.arange(len(x)), params["batch_size"], RandomStreams(seed))
    start = params["steps"] // 4
    count, total = torch.ones(codes), torch.zeros(codes, latent)
    for step in range(params["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + np.cos(np.pi * step / params["steps"])) / 2
        batch = x[order.rows_of(step)]
        z = model.encoder(batch)
        loss = torch.zeros(())
        if codes and step >= start:
            if step == start:
                with torch.no_grad():
                    placed = KMeans(codes, n_init=2, random_state=seed).fit(model.encoder(x).numpy())
                model.codes.copy_(torch.from_numpy(placed.cluster_centers_))
                total.copy_(model.codes)
            chosen = model.choose(z)
            loss = 0.25 * functional.mse_loss(z, model.codes[chosen])
            with torch.no_grad():
                hit = functional.one_hot(chosen, codes).float()
                count.mul_(0.99).add_(hit.sum(0), alpha=0.01)
                total.mul_(0.99).add_(hit.T @ z, alpha=0.01)
                dead = count < 0.05
                fresh = z[torch.randint(len(z), (codes,))]
                total[dead], count[dead] = fresh[dead], 1.0
            quantised = model.codes[chosen]
            model.codes.copy_(total / count[:, None])
            z = z + (quantised - z).detach()
        loss = loss + functional.mse_loss(model.decoder(z), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        test = model.encoder(torch.from_numpy(dataset.take(parts.test)).flatten(1)).numpy()
        return model, model.encoder(x).numpy(), test, dataset, parts


def plain(data: str, seed: int) -> Figures:
    """Measure the baselines."""
    from sklearn.cluster import AgglomerativeClustering, KMeans, SpectralClustering
    from sklearn.decomposition import PCA

    model, known, test, dataset, parts = train_plain(data, seed, 0)
    assert dataset.labels is not None
    labels = dataset.labels[parts.test]
    truth = torch.from_numpy(dataset.take(parts.test)).flatten(1)
    found = KMeans(10, n_init=5, random_state=seed).fit(known).predict(test)
    with torch.no_grad():
        error = functional.mse_loss(model.decoder(torch.from_numpy(test)), truth).item()
    figures = {
        "ae_mse": error,
        "ae_kmeans_ami": mutual_information(found, labels),
        "ae_kmeans_accuracy": hungarian_accuracy(found, labels),
    }
    wide, _, test, _, _ = train_plain(data, seed, 0, latent=32)
    with torch.no_grad():
        figures["ae32_mse"] = functional.mse_loss(wide.decoder(torch.from_numpy(test)), truth).item()
    coded, known, test, _, _ = train_plain(data, seed, 160)
    with torch.no_grad():
        chosen = coded.choose(torch.from_numpy(test))
        everything = torch.cat([chosen, coded.choose(torch.from_numpy(known))]).numpy()
        figures["vq_mse"] = functional.mse_loss(coded.decoder(coded.codes[chosen]), truth).item()
    figures["vq_purity"] = purity(chosen.numpy(), labels)
    figures["vq_perplexity_share"] = perplexity(everything, 160) / 160
    pixels = dataset.take(np.arange(len(dataset))).reshape(len(dataset), -1)
    shown, hidden = (dataset.take(rows).reshape(len(rows), -1) for rows in (parts.train, parts.test))
    for name, seen in (("kmeans160", shown), ("kmeans160_all", pixels)):
        prototypes = KMeans(160, n_init=2, random_state=seed).fit(seen)
        nearest = prototypes.cluster_centers_[prototypes.predict(hidden)]
        figures[f"{name}_mse"] = float(np.square(nearest - hidden).mean())
    few = PCA(min(50, pixels.shape[1]), random_state=seed).fit_transform(pixels)
    clusterings: dict[str, Any] = {
        "kmeans": KMeans(10, n_init=5, random_state=seed),
        "ward": AgglomerativeClustering(10),
        "spectral": SpectralClustering(
            10, affinity="nearest_neighbors", n_neighbors=10, assign_labels="cluster_qr", random_state=seed
        ),
    }
    for name, clustering in clusterings.items():
        found = clustering.fit_predict(few)
        figures[f"{name}_ami"] = mutual_information(found, dataset.labels)
        figures[f"{name}_accuracy"] = hungarian_accuracy(found, dataset.labels)
    return figures


SIDES: dict[str, Callable[[str, int], Figures]] = {
    "plain": plain,
    "ours": ours,
    "supervised": supervised,
    "seed": of_the_seed,
}


def _keep(name: str, figures: Figures) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    rounded = {key: float(f"{value:.6g}") for key, value in figures.items()}
    (KEPT / f"{name}.json").write_text(json.dumps(rounded, indent=1) + "\n", "utf-8")
    (KEPT / "versions.json").write_text(json.dumps(versions(PACKAGES), indent=1) + "\n", "utf-8")
    print(name, json.dumps(rounded), flush=True)


def kept(pattern: str) -> dict[str, list[float]]:
    """Return the figures of all trainings whose files have such names, by metric."""
    found: dict[str, list[float]] = {}
    for path in sorted(KEPT.glob(f"{pattern}-[0-9].json")):
        for key, value in json.loads(path.read_text("utf-8")).items():
            found.setdefault(key, []).append(value)
    return found


Target = tuple[float | None, float]
"""Floor, None for a figure that is reported, and ambition."""

# metric, what, the baseline's metric and name, targets by data, larger is better
LINES: tuple[tuple[str, str, str | None, str, Mapping[str, Target], bool], ...] = (
    ("chart_ami", "adjusted mutual information of 10 charts and labels", "ae_kmeans_ami", "AE + k-means",
     {"digits": (0.78, 0.88), "mnist-5k": (0.54, 0.70)}, True),
    ("chart_accuracy", "accuracy of 10 charts, best matching", "ae_kmeans_accuracy", "AE + k-means",
     {"digits": (0.83, 0.90), "mnist-5k": (0.61, 0.78)}, True),
    ("mse_full", "reconstruction error, whole latent", "ae32_mse", "AE of 32 numbers",
     {"digits": (0.0057, 0.004), "mnist-5k": (0.0157, 0.011)}, False),
    ("mse_geo", "reconstruction error, z_geo alone", "ae_mse", "AE of 16 numbers",
     {"digits": (None, 0.008), "mnist-5k": (None, 0.018)}, False),
    ("mse_codes", "reconstruction error, 160 symbols alone", "vq_mse", "VQ-AE of 160 codes",
     {"digits": (0.025, 0.018), "mnist-5k": (0.040, 0.028)}, False),
    ("code_purity", "purity of 160 codes", "vq_purity", "VQ-AE of 160 codes",
     {"digits": (0.95, 0.98), "mnist-5k": (0.75, 0.88)}, True),
    ("code_perplexity_share", "perplexity of codes over their number", "vq_perplexity_share",
     "VQ-AE of 160 codes", {"digits": (0.7, 0.85), "mnist-5k": (0.7, 0.85)}, True),
    ("dead_codes_share", "share of codes that no example chose", None, "",
     {"digits": (0.02, 0.0), "mnist-5k": (0.02, 0.0)}, False),
    ("charts_used", "charts used in the test", None, "", {"digits": (10, 10), "mnist-5k": (10, 10)}, True),
    ("texture_tells_chart", "accuracy of a linear probe of the chart on z_tex; its baseline is to guess the "
     "largest chart", "largest_chart_share", "guessing", {}, False),
)  # fmt: skip


def result_rows() -> list[dict[str, Any]]:
    """Return the rows of everything that was kept."""
    found = []
    for data in ("digits", "mnist-5k"):
        side, base = kept(f"{data}-ours"), kept(f"{data}-plain")
        for metric, what, other, name, targets, larger in LINES if side else ():
            found.append(
                _row(
                    data,
                    metric,
                    what,
                    side[metric],
                    (base | side).get(other or "", []),
                    name,
                    targets.get(data),
                    larger,
                )
            )
        for name, seen in (("kmeans160", "the training"), ("kmeans160_all", "all")) if base else ():
            what = f"error of 160 k-means prototypes of {seen} examples' pixels, a baseline of mse_codes"
            found.append(_row(data, f"{name}_mse", what, base[f"{name}_mse"], [], "", None, False))
        for other in ("kmeans", "ward", "spectral"):
            for metric in ("ami", "accuracy") if base else ():
                values = base[f"{other}_{metric}"]
                what = f"{metric} of {other} on the pixels of all examples, a baseline"
                found.append(_row(data, f"{other}_{metric}", what, values, [], "", None, True))
        labelled = kept(f"{data}-supervised")
        if labelled:
            floor = {"digits": (0.93, 0.97), "mnist-5k": (0.85, 0.93)}[data]
            what = "adjusted mutual information of charts and labels, with supervised terms"
            found.append(_row(data, "supervised_ami", what, labelled["chart_ami"], [], "", floor, True))
    return found


def _row(
    data: str,
    metric: str,
    what: str,
    values: list[float],
    baseline: list[float],
    name: str,
    target: Target | None,
    larger: bool,
) -> dict[str, Any]:
    mean = statistics.mean(values)
    sign = 1 if larger else -1
    floor = None if target is None else target[0]
    met = None if floor is None else sign * mean >= sign * floor
    worst = min(values, key=lambda value: sign * value)
    if metric == "charts_used":
        met = worst >= 10
    goal = "report" if floor is None else f"{'>=' if larger else '<='} {floor:g}"
    if target is not None:
        goal += f", ambition {target[1]:g}"
    row = result_row(
        f"topoencoder.{data}.{metric}",
        f"{data}: {what}; {len(values)} trainings",
        mean,
        sd=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        unit="1",
        baseline=statistics.mean(baseline) if baseline else None,
        baseline_version=f"{name}, same split, steps and batch" if baseline else None,
        target=goal,
        met=met,
        packages=PACKAGES,
    )
    # of where it was trained, which may be another machine
    return row | {"versions": json.loads((KEPT / "versions.json").read_text("utf-8"))}


def ablation_table() -> str:
    """Return the ablation as a Markdown table: each change, and what it does to the metrics.

    A figure is bold where its differences from the defaults, seed by seed, are unlike 0 at the level of 5%
    by Student's t test. The trainings of one seed share initial weights, order and views; with nine rows of
    seven figures, three bold ones are expected where nothing differs.
    """
    metrics = (
        "chart_ami",
        "mse_full",
        "mse_geo",
        "mse_codes",
        "code_purity",
        "code_perplexity_share",
        "texture_tells_chart",
    )
    lines = [
        f"| change | trainings | {' | '.join(metrics)} |",
        "| --- | ---: |" + " ---: |" * len(metrics),
    ]
    for data in ("digits", "mnist-5k"):
        names = {p.stem.rsplit("-", 1)[0] for p in KEPT.glob(f"{data}-ablation-*.json")}
        for name in sorted(names, key=_place_in_table):
            figures, term = kept(name), name.removeprefix(f"{data}-ablation-")
            cells = [_cell(name, f"{data}-ablation-none", metric) for metric in metrics]
            lines.append(f"| {data}, {_change(term)} | {len(figures['mse_full'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _change(term: str) -> str:
    """Return what the ablation did to a term, in words."""
    if term == "none":
        return "defaults"
    return f"{'without' if TERMS[term].default_weight else 'with'} `{term}`"


def _place_in_table(name: str) -> tuple[int, str]:
    """Return what the table is sorted by: the defaults, what was left out, what was added."""
    change = _change(name.split("-ablation-")[1])
    return (("defaults", "without", "with").index(change.split()[0]), change)


def _cell(name: str, usual: str, metric: str) -> str:
    """Return mean and scatter of a metric, bold where it differs from that of the usual trainings."""
    from scipy.stats import ttest_1samp

    seeds = [path.stem[len(name) :] for path in sorted(KEPT.glob(f"{name}-[0-9].json"))]
    values, before = (
        [json.loads((KEPT / f"{stem}{seed}.json").read_text("utf-8"))[metric] for seed in seeds]
        for stem in (name, usual)
    )
    gaps = np.subtract(values, before)
    text = f"{statistics.mean(values):.3g} ± {_spread(values):.1g}"
    unlike = len(gaps) > 1 and np.ptp(gaps) > 0 and ttest_1samp(gaps, 0).pvalue < 0.05
    return f"**{text}**" if unlike else text


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
