"""An interrupted iteration goes on from its last state, bit for bit, and uses none that does not fit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from atlas_pyhessian.basis import Basis
from atlas_pyhessian.hutchinson1989trace import TraceSample
from atlas_pyhessian.recall import CountedOperator, Recall, structured
from atlas_pyhessian.restarts import Restarts, load_spectrum, save_spectrum
from atlas_pyhessian.rows import FileRows
from atlas_pyhessian.savedstates import SavedStates
from atlas_pyhessian.ubaru2017slq import Quadrature
from atlas_pyhessian.wu2000thickrestart import EigenRequest, thick_restart_lanczos
from attrs import define, evolve


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


@define
class Mortal:
    """An operator that dies at one product."""

    operator: object
    dies_at: int

    def __getattr__(self, name):
        return getattr(self.operator, name)

    def matvec(self, vector, *, out=None):
        if self.operator.num_matvecs == self.dies_at:
            raise Killed
        return self.operator.matvec(vector, out=out)


@pytest.fixture
def states(tmp_path, monkeypatch):
    """States that are written at every chance, as if each product took minutes."""
    monkeypatch.setattr("atlas_pyhessian.savedstates._SHORTEST_INTERVAL", 0.0)
    monkeypatch.setattr("atlas_pyhessian.savedstates._LONGEST_INTERVAL", 0.0)
    monkeypatch.setattr("atlas_pyhessian.savedstates._SHARE", float("inf"))
    notes: list[str] = []

    def build(**identity) -> SavedStates:
        made = SavedStates(tmp_path / "keep", {"seed": 1, **identity}, notes.append)
        return made

    build.notes = notes
    build.folder = tmp_path / "keep"
    return build


SPECTRUM = np.r_[9.3, 7.3, 7.3, 3.2, 2.7, -2.6, 1.9, 1.85, np.random.default_rng(0).standard_t(3, 300) * 0.1]


def solve(operator, probes, states=None, *, make_basis=None, **request):
    sampler = probes(operator.size, dtype=operator.dtype)
    return thick_restart_lanczos(
        operator,
        lambda i: sampler.rademacher("start", i),
        EigenRequest(**{"top_k": 5, "tolerance": 1e-3, **request}),
        make_basis=make_basis,
        restarts=Restarts.of(states) if states is not None else None,
    )


def numbers(spectrum):
    vectors = torch.stack([spectrum.basis.vector(i) for i in range(len(spectrum.basis))])
    names = [a.name for a in type(spectrum).__attrs_attrs__ if a.name != "basis"]
    return [repr(getattr(spectrum, name)) for name in names], vectors


@pytest.mark.parametrize("storage", [torch.float32, torch.float16])
def test_a_state_of_every_product_leads_to_the_same_bits(dense, probes, states, storage):
    """The oracle is the run that nobody interrupted."""

    def copy():
        return evolve(whole, num_matvecs=0)

    whole = dense(SPECTRUM, dtype=torch.float32)
    expected, vectors = numbers(solve(whole, probes, storage=storage))
    resumed_at = set()
    for dies_at in [1, 2, 3, *range(4, whole.num_matvecs, 3), whole.num_matvecs - 1]:
        shutil.rmtree(states.folder, ignore_errors=True)
        with pytest.raises(Killed):
            solve(Mortal(copy(), dies_at), probes, states(), storage=storage)
        running = Restarts.of(states()).running
        assert running is not None
        resumed_at.add((running.spent, running.expanded))
        operator = copy()
        observed, others = numbers(solve(operator, probes, states(), storage=storage))
        assert observed == expected
        assert torch.equal(vectors, others)
        assert operator.num_matvecs == whole.num_matvecs - running.spent
    assert any(expanded for _, expanded in resumed_at)
    assert len(resumed_at) > 8
    assert states.notes == []


def test_a_random_vector_alone_is_no_state(dense, probes, states):
    """Its first product may be known already, and would be counted twice."""
    with pytest.raises(Killed):
        solve(Mortal(dense(SPECTRUM), 0), probes, states())
    assert Restarts.of(states()).running is None


def test_a_basis_in_a_file_is_saved_and_found_like_one_in_memory(dense, probes, states, tmp_path):
    def make_basis(capacity, size, storage):
        rows = FileRows(capacity, size, storage, tmp_path)
        device = torch.device("cpu")
        return Basis(capacity, size, storage=storage, dtype=torch.float32, device=device, rows=rows)

    expected, vectors = numbers(solve(dense(SPECTRUM, dtype=torch.float32), probes, make_basis=make_basis))
    with pytest.raises(Killed):
        dying = Mortal(dense(SPECTRUM, dtype=torch.float32), 17)
        solve(dying, probes, states(), make_basis=make_basis)
    operator = dense(SPECTRUM, dtype=torch.float32)
    observed, others = numbers(solve(operator, probes, states(), make_basis=make_basis))
    assert observed == expected
    assert torch.equal(vectors, others)


def test_a_finished_spectrum_is_found_with_its_vectors(dense, probes, states):
    operator = dense(SPECTRUM, dtype=torch.float32)
    spectrum = solve(operator, probes, storage=torch.float16)
    assert save_spectrum(states(), spectrum)

    def make_basis(capacity, size, storage):
        return Basis(capacity, size, storage=storage, dtype=torch.float32, device=torch.device("cpu"))

    found = load_spectrum(states(), operator.size, make_basis)
    expected, vectors = numbers(spectrum)
    observed, others = numbers(found)
    assert observed == expected
    assert torch.equal(vectors, others)


def interrupted(dense, probes, states):
    with pytest.raises(Killed):
        solve(Mortal(dense(SPECTRUM), 20), probes, states())
    return states.folder


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


SPOILT = {
    "a bit of the vectors": lambda folder: flipped(next(folder.glob("*.bin"))),
    "a bit of the facts": lambda folder: flipped(folder / "lanczos.json"),
    "torn vectors": lambda folder: next(folder.glob("*.bin")).write_bytes(b"\0" * 100),
    "torn facts": lambda folder: (folder / "lanczos.json").write_bytes(
        (folder / "lanczos.json").read_bytes()[:-9]
    ),
    "no vectors": lambda folder: next(folder.glob("*.bin")).unlink(),
    "empty facts": lambda folder: (folder / "lanczos.json").write_bytes(b""),
    "a folder": lambda folder: ((folder / "lanczos.json").unlink(), (folder / "lanczos.json").mkdir()),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_a_spoilt_state_is_noted_and_not_used(dense, probes, states, spoil):
    folder = interrupted(dense, probes, states)
    spoil(folder)
    operator = dense(SPECTRUM)
    assert numbers(solve(operator, probes, states()))[0] == numbers(solve(dense(SPECTRUM), probes))[0]
    assert operator.num_matvecs == solve(dense(SPECTRUM), probes).num_matvecs
    assert len([note for note in states.notes if "is not used" in note]) == 1


def test_a_state_of_other_weights_or_settings_is_noted_and_not_used(dense, probes, states):
    interrupted(dense, probes, states)
    assert states(weights="other").load("lanczos") is None
    assert states(weights="other").part("slice").load("lanczos") is None
    assert states.notes == [
        "a kept state (lanczos) is not used, and its part is measured anew: it was made with other "
        "settings, weights, code or libraries"
    ]
    assert states().load("lanczos") is not None


def test_a_kill_while_writing_leaves_the_state_before(dense, probes, states, monkeypatch):
    folder = interrupted(dense, probes, states)
    before = states().load("lanczos").facts["spent"]

    def dying():
        yield torch.zeros(3)
        raise Killed

    with pytest.raises(Killed):
        states().save("lanczos", {"spent": -1}, dying(), 24)
    assert len(list(folder.glob("*.bin"))) == 2
    assert states().load("lanczos").facts["spent"] == before
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        states().save("lanczos", {"spent": -1}, [torch.zeros(3)], 12)
    monkeypatch.undo()
    assert states().load("lanczos").facts["spent"] == before
    assert states().save("lanczos", {"spent": -1}, [torch.zeros(3)], 12)
    assert len(list(folder.glob("*.bin"))) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are POSIX's")
def test_a_full_disk_is_noted_and_the_numbers_come_all_the_same(tmp_path):
    """The child may write no file beyond 100 kB; the state takes 200."""
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from pathlib import Path
import torch
from atlas_pyhessian.savedstates import SavedStates
notes = []
states = SavedStates(Path(sys.argv[1]), {}, notes.append)
assert states.save("small", {}, [torch.zeros(1000)], 4000)
for _ in range(2):
    assert not states.save("state", {}, [torch.zeros(50_000)], 200_000)
assert len(notes) == 1 and "could not be kept" in notes[0] and "too large" in notes[0], notes
assert sorted(p.name for p in Path(sys.argv[1]).iterdir()) == ["small.0.bin", "small.json"]
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_state_that_the_disk_has_no_room_for_is_not_begun(states, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 300 << 20})())
    assert not states().save("state", {}, iter([]), 100 << 20)
    assert "0.10 GB, and 0.31 GB are free" in states.notes[0]
    assert list(states.folder.iterdir()) == []


def test_states_are_written_rarely_enough_to_cost_a_tenth_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    states = SavedStates(tmp_path)
    observed = []
    for now[0] in (0.5, 2.0, 5.0):
        observed.append(states.due(1000))
    for now[0] in (5.0, 19.0, 21.0):  # 1 GB at the expected 0.5 GB/s takes 2 s
        observed.append(states.due(1_000_000_000))
    assert observed == [False, True, True, False, False, True]
    now[0] = 1000.0
    states.save("small", {})
    for now[0] in (1029.0, 1031.0):
        observed.append(states.due(1000))
    assert observed[-2:] == [False, True]
    assert not SavedStates(None).due(0)


def test_recalled_results_are_equal_and_their_products_counted(dense, states):
    def attempt():
        operator = CountedOperator(dense(np.ones(8)))
        recall = Recall(states(), operator)

        def sample(index):
            operator.matvec(torch.ones(8, dtype=torch.float64))
            return TraceSample(index, 0.1 + 0.2, 1e-320)

        return [recall(f"probe {i}", TraceSample, lambda i=i: sample(i)) for i in range(3)], recall

    (first, before), (second, after) = attempt(), attempt()
    assert second == first
    assert (before.found, after.found) == ((), ("probe 0", "probe 1", "probe 2"))
    assert (after.operator.num_matvecs, after.operator.operator.num_matvecs) == (3, 0)


def test_values_come_back_from_json_in_their_types():
    rule = Quadrature((0.1, 0.2), (1.0, 2.0), complete=False)
    from attrs import asdict

    assert structured(Quadrature, json.loads(json.dumps(asdict(rule)))) == rule


def test_a_part_drops_its_own_states_only(states):
    one, other = states().part("slice1"), states().part("slice10")
    for part in (one, other):
        part.save("lanczos", {}, [torch.zeros(2)], 8)
    one.drop()
    assert (one.found, other.found) == (False, True)
