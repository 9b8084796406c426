"""Sums over long float32 vectors against float64, and bases that are stored rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from atlas_pyhessian import reductions
from atlas_pyhessian.basis import ROUNDING, Basis
from atlas_pyhessian.probes import Probes
from atlas_pyhessian.rows import BLOCK, FileRows

from atlas.errors import BadInput, InstrumentFailed
from atlas.randomness import RandomStreams


def normal(size, seed, dtype=torch.float32):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def basis(capacity, size, storage, dtype=torch.float32):
    return Basis(capacity, size, storage=storage, dtype=dtype, device=torch.device("cpu"))


def test_long_float32_sums_are_right_where_torchs_are_not():
    """20 million terms; the oracle converts the whole vector to float64."""
    x = normal(20_000_000, 1)
    exact = float(x.double() @ x.double())
    assert abs(reductions.dot(x, x) / exact - 1) <= 1e-12
    assert abs(reductions.norm(x) / exact**0.5 - 1) <= 1e-12
    assert abs(float(torch.linalg.vector_norm(x)) ** 2 / exact - 1) >= 1e-5


@pytest.mark.parametrize("size", [1, 100, 32768, 300_001])
def test_stack_products_equal_the_matrix_products(size):
    stack = normal((3, size), 2, torch.float64)
    vector = normal(size, 3, torch.float64)
    coefficients = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    assert torch.allclose(reductions.project(stack, vector), stack @ vector, rtol=1e-12)
    expected = vector + coefficients @ stack
    assert torch.allclose(reductions.add_combination(vector.clone(), stack, coefficients), expected)
    rotation = normal((2, 3), 4, torch.float64)
    rotated = rotation @ stack
    reductions.combine(stack, rotation, torch.float64)
    assert torch.allclose(stack[:2], rotated)


@pytest.mark.parametrize("storage", list(ROUNDING))
def test_a_stored_vector_is_perturbed_by_no_more_than_stated(storage):
    held = basis(2, 100_000, storage, torch.float64)
    vector = normal(100_000, 5, torch.float64)
    unit = vector / vector.norm()
    held.append(vector.clone(), scale=1 / float(vector.norm()))
    assert float((held.vector(0) - unit).norm()) <= held.rounding


def test_a_localised_vector_does_not_overflow_float16():
    held = basis(1, 1_000_000, torch.float16)
    vector = torch.zeros(1_000_000)
    vector[17] = 1.0
    held.append(vector.clone())
    assert torch.equal(held.vector(0), vector)


def test_small_entries_keep_their_digits_in_float16():
    """Entries of 1e-6, below float16's normal range until they are scaled by sqrt(n)."""
    held = basis(1, 100_000, torch.float16)
    vector = 1e-6 * normal(100_000, 6)
    vector[0] = 1.0
    held.append(vector.clone())
    gap = (held.vector(0) - vector)[1:]
    assert float(gap.norm()) <= 1e-3 * float(vector[1:].norm())


@pytest.mark.parametrize("storage", [torch.float16, torch.float32])
def test_orthogonalising_removes_the_held_directions(storage):
    held = basis(4, 50_000, storage)
    for seed in range(4):
        vector = normal(50_000, seed)
        held.orthogonalise(vector)
        held.append(vector, scale=1 / reductions.norm(vector))
    stack = torch.stack([held.vector(i) for i in range(4)]).double()
    vector = (stack.T @ torch.tensor([5.0, 4.0, 3.0, 2.0], dtype=torch.float64)).float() + 1e-3
    before = vector.double()
    removed = held.orthogonalise(vector)
    assert float((stack @ vector.double()).abs().max()) <= 1e-6 * reductions.norm(vector)
    rebuilt = vector.double() + removed @ stack
    assert float((rebuilt - before).norm()) <= 1e-5 * float(before.norm())


def test_a_storage_that_fails_its_certificate_is_not_offered():
    with pytest.raises(BadInput, match=r"cannot be stored as torch\.bfloat16"):
        basis(1, 10, torch.bfloat16)


def test_probes_depend_on_the_parameters_name_and_not_on_its_neighbours():
    def draw(names, sizes):
        probes = Probes(RandomStreams(3), names, sizes, torch.float32, torch.device("cpu"))
        return probes.rademacher("trace", 5)

    both, alone = draw(("a", "b"), (9, 40)), draw(("b",), (40,))
    assert torch.equal(both[9:], alone)
    twins = draw(("a", "b"), (40, 40))
    assert not torch.equal(twins[:40], twins[40:])
    assert set(both.tolist()) == {-1.0, 1.0}
    assert abs(float(draw(("c",), (100_000,)).mean())) <= 4 / np.sqrt(100_000)


@pytest.mark.parametrize("storage", list(ROUNDING))
def test_a_basis_on_disk_computes_what_one_in_memory_does(tmp_path, storage):
    """Three blocks, the last one short; the same arithmetic in the same order but for float64 subtotals."""
    size = 2 * BLOCK + 12_345
    kinds = (None, FileRows(4, size, storage, tmp_path))
    observed = []
    for rows in kinds:
        held = Basis(4, size, storage=storage, dtype=torch.float32, device=torch.device("cpu"), rows=rows)
        for seed in range(4):
            vector = normal(size, seed)
            held.orthogonalise(vector)
            held.append(vector, scale=1 / reductions.norm(vector))
        held.rotate(torch.linalg.qr(normal((4, 4), 9, torch.float64))[0][:, :3].T)
        probe = normal(size, 10)
        removed = held.orthogonalise(probe)
        observed.append((held.vector(2), removed, probe, held.combination(removed)))
    in_memory, on_disk = observed
    assert all(torch.allclose(x, y, rtol=0, atol=1e-6) for x, y in zip(in_memory, on_disk, strict=True))
    assert list(tmp_path.iterdir()) == [], "the file has no name, so that nothing is left of it"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the disk that is always full is Linux's")
def test_a_full_disk_is_said_with_the_way_out(tmp_path):
    rows = FileRows(2, 100, torch.float16, tmp_path)
    rows._file.close()
    rows._file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115, PTH123 # closed with the rows
    with pytest.raises(InstrumentFailed, match="No space left on device"):
        rows.write(0, torch.zeros(100))


@pytest.mark.parametrize("storage", [torch.float16, torch.float32])
def test_an_appended_vector_comes_back_as_it_is_stored(storage):
    held, vector = basis(1, 1000, storage), normal(1000, 0)
    returned = held.append(vector, scale=1.0 / reductions.norm(vector))
    assert returned is vector
    assert torch.equal(returned, held.vector(0))


def test_signs_unpacked_on_a_device_are_those_of_the_cpu():
    """Sizes that are no multiple of 8 leave bits over in the last byte of a parameter."""
    names, sizes = ("a", "b", "c"), (13, 8, 3)
    probes = Probes(RandomStreams(0), names, sizes, torch.float32, torch.device("cpu"))
    expected, unpacked = probes.rademacher("probe", 0), probes.empty()
    drawn = [
        probes.streams.generator("probe", 0, n).bytes((s + 7) // 8) for n, s in zip(names, sizes, strict=True)
    ]
    probes._unpack(bytearray().join(drawn), torch.split(unpacked, sizes))
    assert torch.equal(2 * unpacked - 1, expected)
