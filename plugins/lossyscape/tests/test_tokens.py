"""Single tokens of a bigram model of four words, against dense derivatives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from atlas_lossyscape.tokens import measure_tokens, token_counts
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.preparation import prepared

from atlas.contracts import Batch
from atlas.errors import BadInput

TEXTS = ([0, 1, 2, 1, 0], [3, 1, 1])


class Bigram(torch.nn.Module):
    """Logits of the next word by the word before, `[4, 4]`."""

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(4, 4, generator=rng, dtype=torch.float64))


class Model:
    def __init__(self):
        self.module = Bigram()

    def outputs(self, batch):
        return self.module.weight[batch.inputs["input_ids"][:, :-1]]

    def output_loss(self, outputs, batch):
        following = batch.inputs["input_ids"][:, 1:]
        return torch.nn.functional.cross_entropy(outputs.transpose(1, 2), following, reduction="sum")

    def loss_sum(self, batch):
        return self.output_loss(self.outputs(batch), batch)


def batches():
    return [
        Batch({"input_ids": torch.tensor([text])}, float(len(text) - 1), (name,))
        for name, text in zip("ab", TEXTS, strict=True)
    ]


def measured(model, most=100):
    with prepared(model.module) as parameters:
        operator = HessianOperator(parameters, model.loss_sum, batches(), retain_graph=False)
        counts = token_counts(batches())
        rng = np.random.default_rng(0)
        return measure_tokens(model, operator, batches(), counts, most, rng, lambda done, total: None)


def token_loss(weight, before, after):
    return -torch.log_softmax(weight[before], 0)[after]


def test_a_tokens_loss_gradient_and_curvature_are_those_of_dense_derivatives():
    model = Model()
    weight = model.module.weight.detach().clone()
    bigrams = [pair for text in TEXTS for pair in pairwise(text)]

    def mean(flat):
        return sum(token_loss(flat.view(4, 4), *pair) for pair in bigrams) / len(bigrams)

    hessian = torch.autograd.functional.hessian(mean, weight.reshape(-1))
    expected = []
    for before, after in bigrams:
        own = weight.clone().requires_grad_()
        loss = token_loss(own, before, after)
        (gradient,) = torch.autograd.grad(loss, own)
        unit = gradient.reshape(-1) / gradient.norm()
        expected.append((float(loss.detach()), float(gradient.norm()), float(unit @ hessian @ unit)))

    found = measured(model)

    # Float64 on both sides.
    observed = [(token.loss, token.gradient_norm, token.curvature) for token in found]
    assert np.array(observed) == pytest.approx(np.array(expected), rel=1e-9)


def test_a_token_is_known_by_item_place_word_and_count():
    found = measured(Model())

    assert [(t.item, t.position, t.token, t.count) for t in found] == [
        ("a", 1, 1, 4),
        ("a", 2, 2, 1),
        ("a", 3, 1, 4),
        ("a", 4, 0, 2),
        ("b", 1, 1, 4),
        ("b", 2, 1, 4),
    ]


def test_no_more_tokens_are_measured_than_asked_for():
    found = measured(Model(), most=3)

    assert len({(token.item, token.position) for token in found}) == 3


def test_a_loss_that_is_no_cross_entropy_of_next_tokens_is_refused():
    class Doubled(Model):
        def output_loss(self, outputs, batch):
            return 2 * super().output_loss(outputs, batch)

    with pytest.raises(BadInput, match="add up to"):
        measured(Doubled())
