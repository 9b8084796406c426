"""The pictures of a training step with what they show in words, from sealed files alone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from atlas.figures import Figure
from atlas_topoencoder.pictures.atlas import draw_atlas, draw_steps
from atlas_topoencoder.pictures.codes import draw_codes
from atlas_topoencoder.pictures.curves import draw_curves
from atlas_topoencoder.pictures.reconstructions import draw_reconstructions

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["step_figures"]


def step_figures(view: RunView, step: str) -> Iterator[Figure]:
    """Yield the pictures of a finished training step."""
    tables = view.tables(step)
    facts = json.loads(view.read(f"raw/{step}/facts.json"))
    values = {r["metric"]: r["value"] for r in tables["metrics"] if not r["repetition"]}

    def figure(name: str, caption: str, draw: Callable[..., bytes]) -> Figure:
        return Figure(name, caption, lambda form: draw(kind=form))

    share = float(facts["disc.share"])
    points, charts, codes = tables["points"], tables["charts"], tables["codes"]
    caption = (
        f"{len(points)} test examples of the first training in the Poincaré disc, coloured by class; "
        "numbered circles are chart centres, crosses the codes in use. "
    )
    if share < 1:
        caption += (
            "Latent points have more than two dimensions: shown is the plane through the origin along the "
            f"two directions of most variance, which hold {share:.0%} of it. "
        )
    if values["chart_ami"] is not None:
        caption += f"Charts and classes share an adjusted mutual information of {values['chart_ami']:.3f}."
    yield figure("atlas", caption, partial(draw_atlas, points, charts, codes))
    path = f"raw/{step}/examples.npz"
    if path in view.artifacts:
        with np.load(io.BytesIO(view.read(path)), allow_pickle=False) as stored:
            images = {name: stored[name] for name in stored.files}
        caption = (
            "Test examples, and what is decoded of them; mean squared error over all test examples "
            f"{values['mse_full']:.4g} from the whole latent, {values['mse_geo']:.4g} from its point alone, "
            f"{values['mse_codes']:.4g} from chart and code alone."
        )
        yield figure("reconstructions", caption, partial(draw_reconstructions, images))
    dead = sum(not row["examples"] for row in codes)
    caption = (
        f"How many training and test examples chose each of {len(codes)} codes; {dead} chosen by none. Their "
        f"perplexity is {values['code_perplexity_share']:.2f} of their number."
    )
    yield figure("codes", caption, partial(draw_codes, codes))
    if tables["snapshots"]:
        caption = (
            "The same test examples at several steps, in the plane and colours of the atlas; below, how many "
            "lie in each chart, the line where all would be equal."
        )
        yield figure("steps", caption, partial(draw_steps, tables["snapshots"]))
    caption = (
        "Loss terms before their weight, on the batch of the step (blue, left; further trainings grey), and "
        "the norm of the weighted gradient (orange, right, logarithmic, one scale for all)."
    )
    yield figure("curves", caption, partial(draw_curves, tables["curves"]))
