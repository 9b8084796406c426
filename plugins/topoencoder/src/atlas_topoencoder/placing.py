"""Charts and codes put where the data lie: once after the warm-up, and again where a code has died."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from atlas.errors import BadInput
from atlas_topoencoder.geometry import logmap0
from atlas_topoencoder.model import TopoEncoder

__all__ = ["place_charts", "place_codes", "revive_codes"]

_NEIGHBOURS = 5
"""Of the graph of spectral clustering. On digits, over two trainings and three lengths of warm-up, charts on
5, 10 and 15 have a mean AMI of .86, .84 and .83 with the labels."""


def _clusters(points: np.ndarray, number: int, method: str, seed: int) -> np.ndarray:
    """Return the cluster of each of `[N, D]`, `[N]`."""
    from sklearn.cluster import AgglomerativeClustering, KMeans, SpectralClustering

    if method == "ward":
        found = AgglomerativeClustering(number)
    elif method == "spectral":
        found = SpectralClustering(
            number,
            affinity="nearest_neighbors",
            n_neighbors=min(_NEIGHBOURS, len(points) - 1),
            assign_labels="cluster_qr",
            random_state=seed,
        )
    else:
        found = KMeans(number, n_init=5, random_state=seed)
    with warnings.catch_warnings():
        # Groups that the graph does not join are clusters, which is what is looked for.
        warnings.filterwarnings("ignore", "Graph is not fully connected", UserWarning)
        labels: np.ndarray = found.fit_predict(points)
    return labels


def place_charts(
    model: TopoEncoder, v: torch.Tensor, *, method: str, seed: int, labels: np.ndarray | None = None
) -> np.ndarray:
    """Put chart centres on the clusters of points `[N, D]` of the ball, in their logarithms.

    Args:
        model: Its centres are overwritten, those of the decoder's router too.
        v: Points before quantisation, N no fewer than the charts.
        method: `k-means`, `ward`, `spectral` on the graph of the five nearest neighbours, or `labels` for a
            chart a class; charts beyond the classes stay where they are.
        seed: Of the method's own draws.
        labels: Class of each point, `[N]`; None where there are none.

    Returns:
        The chart of each point, `[N]`.

    Raises:
        BadInput: There are fewer points than charts, or charts cannot be placed by labels.
    """
    charts = model.architecture.charts
    if method == "labels" and (labels is None or labels.max() >= charts):
        what = "there are none" if labels is None else f"{labels.max() + 1} classes exceed {charts} charts"
        raise BadInput(
            f"charts cannot be placed by labels: {what}",
            where="schedule.placing",
            fix="give labelled data and a chart for each class, or write `placing: spectral`",
        )
    if len(v) < charts:
        raise BadInput(
            f"{charts} charts cannot be placed on {len(v)} training examples",
            where="model.charts",
            fix=f"ask for at most {len(v)} charts, or give more examples",
        )
    points = logmap0(v).double().cpu().numpy()
    found = _clusters(points, charts, method, seed) if method != "labels" or labels is None else labels
    with torch.no_grad():
        for router in {model.router, model.decoder_router}:
            for k in np.unique(found).tolist():
                router.centers_tangent[k].copy_(torch.from_numpy(points[found == k].mean(0)))
    return found


def place_codes(model: TopoEncoder, local: torch.Tensor, chart: torch.Tensor, *, seed: int) -> None:
    """Put each chart's codes on the clusters of its own local points `[N, D]` of the ball.

    A chart with fewer points than codes gets a code on each, and keeps its other codes where they are.
    """
    from sklearn.cluster import KMeans

    points, charts = logmap0(local).double().cpu().numpy(), chart.cpu().numpy()
    tangent = model.quantiser.tangent
    for k in range(model.architecture.charts):
        own = np.unique(points[charts == k], axis=0)
        number = min(len(own), model.architecture.codes)
        if number:
            centres = KMeans(number, n_init=2, random_state=seed + k).fit(own).cluster_centers_
            with torch.no_grad():
                tangent[k, :number].copy_(torch.from_numpy(centres))


def revive_codes(
    model: TopoEncoder, local: torch.Tensor, chart: torch.Tensor, code: torch.Tensor
) -> list[tuple[int, int]]:
    """Move each code that nothing chose to the local point of its chart that is farthest from its own code.

    Args:
        model: Its codebook is changed in place.
        local: `[N, D]`, in the ball.
        chart: `[N]`.
        code: Chosen in that chart, `[N]`.

    Returns:
        Chart and code of each that was moved; a chart without points keeps its codes.
    """
    points, charts, codes = logmap0(local), chart.cpu().numpy(), code.cpu().numpy()
    tangent, moved = model.quantiser.tangent, []
    gaps = (points - tangent.detach()[chart, code]).square().sum(-1).cpu().numpy()
    for k in range(model.architecture.charts):
        own = np.flatnonzero(charts == k)
        dead = np.setdiff1d(np.arange(model.architecture.codes), codes[own])
        farthest = own[np.argsort(-gaps[own], kind="stable")][: len(dead)]
        for j, example in zip(dead.tolist(), farthest.tolist(), strict=False):
            with torch.no_grad():
                tangent[k, j].copy_(points[example])
            moved.append((k, j))
    return moved
