"""The contract of instruments: what holds for each of them, whatever it measures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from atlas.testing.command_line import Atlas

__all__ = ["HEAVY", "InstrumentContract", "contract_offer", "contract_run"]

HEAVY = ("torch", "transformers", "numpy", "scipy", "pandas", "matplotlib", "sklearn", "jax", "tensorflow")
"""What takes long to import, and is imported within the functions that need it."""


@pytest.fixture(scope="class")
def contract_offer(request: pytest.FixtureRequest) -> Any:
    """The instrument under test as its card offers it."""
    import yaml

    from atlas.catalog import discover

    contract: type[InstrumentContract] = request.cls
    steps = yaml.safe_load(contract.manifest.read_text(encoding="utf-8"))["steps"]
    use = next((step["use"] for step in steps if step["id"] == contract.step), None)
    assert use is not None, f"{contract.manifest} has no step {contract.step!r}"
    return discover().find("instruments", use)


@pytest.fixture(scope="class")
def contract_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    """The command line after one run of the manifest under test."""
    atlas = Atlas(tmp_path_factory.mktemp("contract"), {})
    outcome = atlas("run", str(request.cls.manifest))
    assert outcome.code == 0, outcome.err or outcome.out
    return atlas


class InstrumentContract:
    """Subclass it as `Test...`, and name a manifest whose step uses the instrument and takes seconds.

    Attributes:
        manifest: The manifest's path.
        step: Id of the step that uses the instrument under test.
        heavy: Modules that importing the plugin must not import.
        seconds: After which a run counts as hanging.
    """

    manifest: ClassVar[Path]
    step: ClassVar[str]
    heavy: ClassVar[tuple[str, ...]] = HEAVY
    seconds: ClassVar[float] = 300

    def test_the_card_is_sound(self, contract_offer: Any) -> None:
        """The card states what planning and reading need, and clashes with nobody's."""
        from atlas.catalog import discover

        catalog, details = discover(), contract_offer.details
        assert catalog.card(contract_offer.plugin).fault is None
        assert not [clash for clash in catalog.clashes() if contract_offer.distribution in clash]
        assert contract_offer.summary.endswith("."), "the summary is a sentence"
        assert details["phase"] in ("measure", "interpret")
        assert details["determinism"], "say how equal two runs are"
        assert details["claims"], "say what the numbers allow one to say"
        offered = {schema.name for schema in catalog.offers("schemas")}
        assert {schema for schema, _ in _outputs(contract_offer).values()} <= offered

    def test_importing_the_plugin_imports_nothing_heavy(self, contract_offer: Any) -> None:
        """What is heavy is imported by the functions that need it."""
        from atlas.catalog import discover

        module = discover().card(contract_offer.plugin).module
        code = f"import {module}, sys; print(*sorted({set(self.heavy)!r} & set(sys.modules)))"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ended.stdout.split() == []

    def test_parameters_have_words_and_examples_that_are_valid(self, contract_offer: Any) -> None:
        """Every parameter is described; defaults and examples are valid by the card's own schema."""
        from jsonschema import Draft202012Validator

        Draft202012Validator.check_schema(dict(contract_offer.params))
        for name, schema in contract_offer.params.get("properties", {}).items():
            assert schema.get("description"), f"{name} has no description"
            values = [*schema.get("examples", ()), *([schema["default"]] if "default" in schema else [])]
            for value in values:
                Draft202012Validator(schema).validate(value)
        for example in contract_offer.params.get("examples", ()):
            Draft202012Validator(dict(contract_offer.params)).validate(example)

    def test_an_unknown_parameter_is_refused_before_anything_starts(self, contract_run: Atlas) -> None:
        """A slip of the pen costs a second and not an hour."""
        before = contract_run.runs()
        outcome = contract_run(
            "run", str(self.manifest), "--set", f"steps.{self.step}.params.no_such_parameter=1"
        )
        assert (outcome.code, contract_run.runs()) == (2, before)
        assert "no_such_parameter" in outcome.err

    def test_what_the_card_declares_comes_out_with_errors(
        self, contract_offer: Any, contract_run: Atlas
    ) -> None:
        """Every declared table is there, and every quantity says what its uncertainty is."""
        view = contract_run.view(contract_run.runs()[0].name)
        owed = {name for name, (_, optional) in _outputs(contract_offer).items() if not optional}
        assert owed <= set(view.tables(self.step))
        quantities = [quantity for step, quantity in view.quantities() if step == self.step]
        assert quantities, "the step recorded no quantity"
        for quantity in quantities:
            assert quantity.value is None or quantity.uncertainty_kind is not None, quantity

    def test_the_declared_needs_suffice(self, contract_offer: Any, contract_run: Atlas) -> None:
        """The step stays within the memory that its card states; the host grants it nothing undeclared."""
        view = contract_run.view(contract_run.runs()[0].name)
        peak = json.loads(view.read(f"environment/{self.step}.json")).get("peak_memory_bytes")
        if peak is None:
            pytest.skip("this platform does not tell the peak memory of a process")
        assert int(peak) <= contract_offer.details["needs"]["memory_gb"] * 2**30

    def test_two_runs_are_equal(self, contract_run: Atlas) -> None:
        """The same manifest gives the same tables, byte for byte."""
        outcome = contract_run("run", str(self.manifest))
        assert outcome.code == 0, outcome.err
        one, other = (_tables(path, self.step) for path in contract_run.runs()[-2:])
        assert one == other

    def test_a_run_that_was_killed_goes_on_to_the_same_tables(
        self, contract_run: Atlas, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """A process group killed while the step works is resumed as if it never had been."""
        atlas = Atlas(tmp_path_factory.mktemp("killed"), {})
        process = subprocess.Popen(
            [sys.executable, "-c", "from atlas.cli import main; main()", "run", str(self.manifest)],
            cwd=atlas.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for(atlas, self.step, process, self.seconds)
        finally:
            _kill(process)
        (run,) = atlas.runs()
        outcome = atlas("resume", run.name)
        assert outcome.code == 0, outcome.err
        assert _tables(run, self.step) == _tables(contract_run.runs()[0], self.step)


def _outputs(offer: Any) -> Mapping[str, tuple[str, bool]]:
    """Return the schema of each table of a card, and whether the table may be left out."""
    found = {}
    for name, entry in (offer.details.get("outputs") or {}).items():
        whole = {"schema": entry} if isinstance(entry, str) else entry
        found[name] = (whole["schema"], bool(whole.get("optional", False)))
    return found


def _tables(run: Path, step: str) -> Mapping[str, bytes]:
    """Return the bytes of a step's tables."""
    found = {path.name: path.read_bytes() for path in sorted((run / "raw" / step).glob("*.csv"))}
    assert found, f"{run.name} has no table of {step}"
    return found


def _wait_for(atlas: Atlas, step: str, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait until a step has begun, or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        assert time.monotonic() < end, f"the step {step} did not begin within {seconds:g} s"
        for run in atlas.runs():
            lines = (run / "journal.jsonl").read_bytes().splitlines()
            if any(_begins(line, step) for line in lines):
                return
        time.sleep(0.01)


def _begins(line: bytes, step: str) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return bool(event.get("type") == "step-started" and event["data"]["step"] == step)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it has started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):  # it had ended
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
