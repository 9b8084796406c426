"""What a trained TopoEncoder is worth on held-out examples, with the scatter over their choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from attrs import frozen

from atlas_topoencoder.data import Dataset
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.training import encode_rows

__all__ = ["Measured", "Reading", "measure", "read"]

RESAMPLES = 200
"""Of the bootstrap over test examples."""


@frozen(eq=False)
class Reading:
    """What a model makes of some examples; arrays are aligned.

    Attributes:
        errors: Mean squared error of each example, `[N]`, by what it is decoded from: `full`, `geo`, `codes`.
        chart: `[N]`.
        code: Within the chart, `[N]`.
        labels: `[N]`, or None.
        z_geo: Logarithm, `[N, D]`.
        z_tex: `[N, D]`.
        charts: N_c.
        codes: K.
    """

    errors: Mapping[str, np.ndarray]
    chart: np.ndarray
    code: np.ndarray
    labels: np.ndarray | None
    z_geo: np.ndarray
    z_tex: np.ndarray
    charts: int
    codes: int

    @property
    def symbol(self) -> np.ndarray:
        """Chart and code as one number, `[N]`."""
        symbol: np.ndarray = self.chart * self.codes + self.code
        return symbol


@frozen
class Measured:
    """A metric with its bootstrap standard error; `value` None where it is undefined, and `note` why."""

    name: str
    value: float | None
    standard_error: float | None
    num_samples: int
    note: str = ""


def read(model: TopoEncoder, dataset: Dataset, rows: np.ndarray, device: torch.device) -> Reading:
    """Encode and decode the examples of some rows."""
    from atlas_topoencoder.geometry import logmap0

    parts: dict[str, list[np.ndarray]] = {}

    def keep(name: str, values: torch.Tensor) -> None:
        parts.setdefault(name, []).append(values.cpu().numpy())

    for x, e in encode_rows(model, dataset, rows, device):
        with torch.no_grad():
            whole = model.decode(e.z_geo, e.z_tex)
            symbols = model.decode_codes(e.chart, e.code).base
        for name, decoded in (("full", whole.reconstruction), ("geo", whole.base), ("codes", symbols)):
            keep(name, (decoded - x).square().flatten(1).mean(1).double())
        for name, values in (("chart", e.chart), ("code", e.code), ("z_tex", e.z_tex)):
            keep(name, values)
        keep("z_geo", logmap0(e.z_geo))
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return Reading(
        errors={name: joined[name] for name in ("full", "geo", "codes")},
        chart=joined["chart"],
        code=joined["code"],
        labels=dataset.labels_of(rows),
        z_geo=joined["z_geo"],
        z_tex=joined["z_tex"],
        charts=model.architecture.charts,
        codes=model.architecture.codes,
    )


def _counts(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    table = np.zeros((int(found.max()) + 1, int(labels.max()) + 1))
    np.add.at(table, (found, labels), 1)
    return table


def hungarian_accuracy(found: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of examples in the right class under the best matching of clusters to classes."""
    from scipy.optimize import linear_sum_assignment

    table = _counts(found, labels)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(labels))


def purity(found: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of examples that are of the commonest class of their cluster."""
    return float(_counts(found, labels).max(1).sum() / len(labels))


def mutual_information(found: np.ndarray, labels: np.ndarray) -> float:
    """Return the adjusted mutual information of two partitions (arithmetic mean of entropies)."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(labels, found))


def perplexity(found: np.ndarray, number: int) -> float:
    """Return the exponential of the entropy of how often each of `number` values occurs."""
    share = np.bincount(found, minlength=number) / len(found)
    return float(np.exp(-(share * np.log(np.maximum(share, 1e-300))).sum()))


def measure(
    test: Reading, train: Reading, *, classes: int, generator: np.random.Generator, resamples: int = RESAMPLES
) -> list[Measured]:
    """Return the metrics of a model.

    Errors, agreement with labels and the chart's use are those of the test examples. Perplexity and dead
    codes are counted over training and test examples together: a few hundred examples cannot use
    a few hundred codes evenly. Purity takes the commonest class from the test examples themselves, as is
    usual, and flatters codes with few of them; `code_accuracy` takes it from the training examples.
    """
    count = len(test.chart)
    draws = [generator.integers(count, size=count) for _ in range(resamples)]

    def over_test(name: str, function: Callable[[np.ndarray], float]) -> Measured:
        again = [function(rows) for rows in draws]
        return Measured(name, function(np.arange(count)), float(np.std(again, ddof=1)), count)

    found = [
        over_test(f"mse_{name}", lambda rows, errors=errors: float(errors[rows].mean()))  # type: ignore[misc]
        for name, errors in test.errors.items()
    ]
    found += _agreement(test, train, classes, over_test)
    symbols = np.concatenate([train.symbol, test.symbol])
    number = test.charts * test.codes
    spread = [perplexity(symbols[generator.integers(len(symbols), size=len(symbols))], number) for _ in draws]
    found += [
        Measured(
            "code_perplexity_share",
            perplexity(symbols, number) / number,
            float(np.std(spread, ddof=1)) / number,
            len(symbols),
        ),
        Measured("dead_codes_share", 1 - len(np.unique(symbols)) / number, 0.0, len(symbols)),
        Measured("charts_used", float(len(np.unique(test.chart))), 0.0, count),
        over_test("chart_perplexity", lambda rows: perplexity(test.chart[rows], test.charts)),
    ]
    return found


def _agreement(
    test: Reading,
    train: Reading,
    classes: int,
    over_test: Callable[[str, Callable[[np.ndarray], float]], Measured],
) -> list[Measured]:
    """Return the metrics that need labels, undefined where these say nothing."""
    names = ("chart_ami", "chart_accuracy", "code_purity", "code_accuracy")
    if test.labels is None or train.labels is None or classes < 2:
        why = "the data have no labels" if test.labels is None else "all examples are of one class"
        return [Measured(name, None, None, len(test.chart), why) for name in names]
    labels = test.labels
    commonest = np.full(test.charts * test.codes, -1)
    table = np.zeros((len(commonest), classes))
    np.add.at(table, (train.symbol, train.labels), 1)
    used = table.sum(1) > 0
    commonest[used] = table[used].argmax(1)
    right = commonest[test.symbol] == labels
    found = [over_test("chart_ami", lambda rows: mutual_information(test.chart[rows], labels[rows]))]
    if test.charts == classes:
        found.append(
            over_test("chart_accuracy", lambda rows: hungarian_accuracy(test.chart[rows], labels[rows]))
        )
    else:
        why = f"{test.charts} charts cannot be matched one to one with {classes} classes"
        found.append(Measured("chart_accuracy", None, None, len(labels), why))
    found.append(over_test("code_purity", lambda rows: purity(test.symbol[rows], labels[rows])))
    found.append(over_test("code_accuracy", lambda rows: float(right[rows].mean())))
    return found
