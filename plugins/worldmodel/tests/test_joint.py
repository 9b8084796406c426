"""The joint phase's losses: the table holds for every term at once, and sequences are read in order."""

from __future__ import annotations

import numpy as np
import torch
from atlas_topoencoder.architecture import Architecture
from atlas_topoencoder.companions import Companions
from atlas_topoencoder.geometry import conformal_factor, mobius_add
from atlas_topoencoder.losses.terms import TERMS
from atlas_topoencoder.model import TopoEncoder
from atlas_topoencoder.views import Views
from atlas_worldmodel.firewall import BASE, DYNAMICS, LOSSES, PERMITTED, audit, parameter_groups
from atlas_worldmodel.joint import AtlasTerms, LatentSequence, Viewing, joint_losses
from atlas_worldmodel.rehearsal import rehearse

from atlas.objective import Objective
from atlas.randomness import RandomStreams


def made() -> tuple[TopoEncoder, torch.Tensor, torch.Tensor]:
    model = TopoEncoder(Architecture([5], hidden=16, latent=3, charts=2, codes=4), RandomStreams(1))
    draw = np.random.default_rng(0).random
    return (
        model,
        torch.tensor(draw((4, 6, 5)), dtype=torch.float32),
        torch.tensor(draw((4, 5, 2)), dtype=torch.float32),
    )


def still(sequence: LatentSequence) -> torch.Tensor:
    """Return the loss of the prediction that nothing moves."""
    return (sequence.points[:, :-1] - sequence.targets[:, 1:]).square().mean()


def test_all_terms_at_once_keep_the_table_exactly() -> None:
    cells = rehearse(0)
    assert {(c.parameters, c.loss) for c in cells} == {(row, loss) for row in PERMITTED for loss in LOSSES}
    assert all(c.norm is not None and c.kept for c in cells)


def test_slowness_is_taken_between_a_frame_and_the_one_after_it() -> None:
    """Oracle: the term by hand on encoded frames; tolerance: float32 sums of 20 numbers."""
    model, x, actions = made()
    objective = Objective([TERMS["slowness"]], {"slowness": 1.0})
    losses = joint_losses(model, AtlasTerms.of(objective), still, x, actions)
    e = model.encode(x.flatten(0, 1))
    macro = mobius_add(e.c_bar, e.z_q_st).view(4, 6, 3)
    moved = conformal_factor(macro[:, :-1]) * (macro[:, 1:] - macro[:, :-1])
    assert torch.allclose(losses[BASE], moved.square().sum(-1).mean(), rtol=1e-5)


def test_terms_between_views_do_not_train_the_structure_filter() -> None:
    model, x, actions = made()
    objective = Objective([TERMS["vicreg-invariance"]], {"vicreg-invariance": 1.0})
    viewing = Viewing(Views(noise=0.1), np.random.default_rng(1))
    losses = joint_losses(model, AtlasTerms.of(objective), still, x, actions, viewing=viewing)
    norms = {(c.parameters, c.loss): c.norm for c in audit(losses, parameter_groups(model))}
    assert norms["structure-filter", BASE] == 0
    assert norms["extractor", BASE] != 0


def test_the_enclosure_term_reads_actions_and_trains_its_companions() -> None:
    model, x, actions = made()
    companions = Companions(charts=2, latent=3, classes=0, actions=2, streams=RandomStreams(2))
    terms = AtlasTerms.of(Objective([TERMS["enclosure"]], {"enclosure": 1.0}))
    one = joint_losses(model, terms, still, x, actions, companions=companions)[BASE]
    other = joint_losses(model, terms, still, x, 1 - actions, companions=companions)[BASE]
    assert not torch.equal(one, other)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(one, list(companions.parameters())))


def test_a_column_without_a_term_has_no_loss() -> None:
    model, x, actions = made()
    terms = AtlasTerms.of(Objective([TERMS["jump"]], {"jump": 1.0}))
    assert set(joint_losses(model, terms, still, x, actions)) == {"zn-reg", DYNAMICS}
