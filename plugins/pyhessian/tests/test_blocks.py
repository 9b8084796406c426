"""Diagonal blocks against the sub-blocks of exact float64 Hessians.

Tolerances: eigenvalues lie within their stated residuals plus 1e-6 of the block's norm, the float32
rounding inside Llama's norm and the softmax of attention; a trace within five of its standard errors.
"""

from __future__ import annotations

import pytest
import torch
from atlas_pyhessian.blocks import block_row, find_blocks, measure_block
from atlas_pyhessian.instrument import measure
from atlas_pyhessian.operators import HessianOperator
from atlas_pyhessian.parameters import Parameters
from atlas_pyhessian.preparation import prepared
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.settings import Settings

from atlas.errors import BadInput, InstrumentFailed
from atlas.manifest.structure import fill
from atlas.randomness import RandomStreams

from .test_instrument import OFFER, ProblemTarget, RecordingContext


def named(*names: str) -> Parameters:
    return Parameters(names, tuple(torch.nn.Parameter(torch.zeros(2)) for _ in names))


def positions(parameters: Parameters, names: tuple[str, ...]) -> torch.Tensor:
    pieces = torch.arange(parameters.size).split(list(parameters.sizes))
    return torch.cat([p for n, p in zip(parameters.names, pieces, strict=True) if n in names])


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (
            ("transformer.wte.weight", "transformer.h.0.ln.weight", "transformer.h.0.mlp.2.weight",
             "transformer.h.1.ln.weight", "transformer.ln_f.weight", "transformer.ln_f.bias", "head.weight"),
            ["transformer.wte", "transformer.h.0", "transformer.h.1", "transformer.ln_f", "head"],
        ),
        (("bert.embeddings.word.weight", "bert.encoder.layer.0.q.weight", "cls.predictions.bias"),
         ["bert.embeddings", "bert.encoder.layer.0", "cls"]),
        (("0.weight", "0.bias", "2.weight"), ["0", "2"]),
        (("first.weight", "last.weight", "scale"), ["first", "last", "scale"]),
    ],
)  # fmt: skip
def test_layers_are_known_by_the_first_number_and_the_rest_by_its_top_module(names, blocks):
    found = find_blocks(named(*names), "layers")
    assert [block.name for block in found] == blocks
    assert sorted(name for block in found for name in block.parameters.names) == sorted(names)


def test_a_glob_that_matches_nothing_is_refused():
    with pytest.raises(BadInput, match=r"'\*\.attn\.\*' of the block 'attention' matches none"):
        find_blocks(named("h.0.mlp.weight"), {"attention": ["*.attn.*"]})


@pytest.mark.parametrize(
    ("problem", "by"),
    [
        ("gpt2", "layers"),
        ("llama", "tensors"),
        ("mlp", {"ends": ["first.*", "last.*"], "idle": ["unused.*"]}),
    ],
)
def test_a_block_is_a_sub_block_of_the_exact_hessian(problem_and_hessian, problem, by):
    problem, exact = problem_and_hessian(problem)
    params = {"blocks": by, "block_settings": {"top_k": 2, "tolerance": 1e-5, "trace": {"max_probes": 12}}}
    settings = Settings.from_params(fill(OFFER["params"], params))
    with prepared(problem.module) as parameters:
        probes = Probes(
            RandomStreams(3), parameters.names, parameters.sizes, torch.float64, parameters.device
        )

        def operator(chosen):
            return HessianOperator(chosen, problem.loss_sum, problem.batches, retain_graph=True)

        for block in find_blocks(parameters, settings.blocks.by):
            result = measure_block(
                block, parameters, operator, probes, settings, settings.blocks,
                purpose="x", report=lambda what, matvecs, error: None,
            )  # fmt: skip
            assert all(tensor.requires_grad for tensor in parameters.tensors)
            row = block_row(block, result)
            chosen = positions(parameters, block.parameters.names)
            expected = exact[chosen][:, chosen]
            theta = torch.linalg.eigvalsh(expected)
            slack = 1e-6 * float(theta.abs().max())
            assert row["size"] == len(chosen)
            assert row["converged"], block.name
            for name, value in (("lambda_max", theta[-1]), ("lambda_min", theta[0])):
                assert abs(row[name] - float(value)) <= row[f"{name}_residual"] + slack, block.name
            trace = float(expected.trace())

            assert abs(row["trace"] - trace) <= 5 * row["trace_standard_error"] + slack * len(chosen), (
                block.name
            )


def test_a_block_has_no_blocks_of_its_own():
    settings = Settings.from_params(fill(OFFER["params"], {"blocks": "layers", "along": ["gradient"]}))
    own = settings.blocks.applied_to(settings)
    assert (own.blocks, own.along, own.density) == (None, (), None)


@pytest.mark.slow
def test_a_step_measures_blocks_beside_the_whole(problem_and_hessian):
    problem, _ = problem_and_hessian("gpt2")
    context = RecordingContext(ProblemTarget(problem), fill(OFFER["params"], {"blocks": "layers"}))
    measure(context)
    rows = [row for row in context.tables["blocks"] if row["slice"] == "one"]
    names = ["transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.ln_f"]
    assert [row["block"] for row in rows] == names
    assert sum(row["size"] for row in rows) == int(context.facts["num_parameters"])
    assert all(row["lambda_max"] <= context.value("lambda_max").value * (1 + 1e-6) for row in rows)
    assert {row["block"] for row in context.tables["block_spectrum"]} == set(names)


def test_what_fails_in_a_block_names_it(problem_and_hessian):
    problem, _ = problem_and_hessian("mlp")
    settings = Settings.from_params(fill(OFFER["params"], {"blocks": "layers"}))

    def broken(chosen):
        operator = HessianOperator(chosen, problem.loss_sum, problem.batches, retain_graph=False)
        operator.matvec = lambda vector, out=None: (_ for _ in ()).throw(InstrumentFailed("not finite"))
        return operator

    with prepared(problem.module) as parameters:
        block = find_blocks(parameters, "layers")[0]
        probes = Probes(
            RandomStreams(3), parameters.names, parameters.sizes, torch.float64, parameters.device
        )
        with pytest.raises(InstrumentFailed, match="block first: not finite") as caught:
            measure_block(
                block, parameters, broken, probes, settings, settings.blocks,
                purpose="x", report=lambda what, matvecs, error: None,
            )  # fmt: skip
    assert caught.value.where == "block first"
