"""Probes of a trained model: what its parts tell about the class, and what they should not tell."""

from __future__ import annotations

import numpy as np

from atlas_topoencoder.metrics import Measured, Reading

__all__ = ["probe"]

_MOST = 5000
"""Training examples that a probe is fitted on."""


def _accuracy(
    name: str, seen: np.ndarray, wanted: np.ndarray, test: np.ndarray, truth: np.ndarray
) -> Measured:
    """Return how often a linear classifier, fitted on `seen`, is right on `test`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    count = len(truth)
    if len(np.unique(wanted)) < 2:
        return Measured(name, None, None, count, "the training examples are all of one kind")
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(
        seen[:_MOST], wanted[:_MOST]
    )
    share = float((fitted.predict(test) == truth).mean())
    return Measured(name, share, float(np.sqrt(share * (1 - share) / count)), count)


def probe(test: Reading, train: Reading, *, classes: int) -> list[Measured]:
    """Return the accuracies of linear probes.

    `texture_tells_chart` reads the chart from z_tex, which ought to say nothing of it;
    `largest_chart_share` is what guessing reaches. `latent_tells_class` reads the class from the
    logarithm of z_geo.
    """
    largest = float(np.bincount(test.chart).max() / len(test.chart))
    error = float(np.sqrt(largest * (1 - largest) / len(test.chart)))
    found = [
        _accuracy("texture_tells_chart", train.z_tex, train.chart, test.z_tex, test.chart),
        Measured("largest_chart_share", largest, error, len(test.chart)),
    ]
    if train.labels is None or test.labels is None or classes < 2:
        why = "the data have no labels" if train.labels is None else "all examples are of one class"
        return [*found, Measured("latent_tells_class", None, None, len(test.chart), why)]
    return [*found, _accuracy("latent_tells_class", train.z_geo, train.labels, test.z_geo, test.labels)]
