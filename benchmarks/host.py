"""What the host itself costs: starting, a step, an author's first minute, an auditor's check.

    python benchmarks/host.py [--row PREFIX]... [--quick]

Each side is a command of its own. `host.verify` makes a fresh environment with the host alone in it, from the
package index, and `host.stranger` builds a distribution with the setuptools that are here.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rows import RESULTS, result_row, write

from atlas.run.journal import Journal
from atlas.run.store import Deposit, Store
from atlas.testing import Atlas

ROOT = Path(__file__).resolve().parents[1]
MACHINE = f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores"
ATLAS = (sys.executable, "-c", "from atlas.cli import main; main()")
TRAINING = """
atlas: 1
name: small-atlas
lineage: EX
seed: 1
governance: none
steps:
  - {id: train, use: topoencoder, params: {data: {use: moons, count: 1000}, schedule: {steps: 600}}}
"""


def seconds(command: Sequence[str], folder: Path, **environment: str) -> float:
    """Return the wall seconds of a command, which must succeed."""
    begin = time.perf_counter()
    ended = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    return time.perf_counter() - begin


def row(
    name: str,
    what: str,
    values: Sequence[float],
    limit: float,
    baseline: float | None = None,
    version: str = "",
) -> dict[str, Any]:
    """Return a row of seconds, the median of repetitions, with a limit."""
    value = statistics.median(values)
    return result_row(
        name,
        what,
        value,
        unit="s",
        target=f"<= {limit:g} s",
        met=value <= limit,
        packages=["atlas-host"],
        baseline=baseline,
        baseline_version=version or None,
        sd=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        machine=f"{MACHINE}, load {os.getloadavg()[0]:.1f}",
    )


def started(name: str, arguments: Sequence[str], limit: float, count: int) -> dict[str, Any]:
    """Measure a command that imports no plugin beside an interpreter that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = [], []
        for _ in range(count):
            ours.append(seconds([*ATLAS, *arguments], Path(folder)))
            bare.append(seconds([sys.executable, "-c", "pass"], Path(folder)))
    text = f"`atlas {' '.join(arguments)}` with all first-party plugins installed, whole command"
    return row(name, text, ours, limit, statistics.median(bare), "python -c pass")


def step(count: int) -> dict[str, Any]:
    """Measure what each further step of a run costs where the step itself does next to nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        site = installed(folder, "grain-size")
        manifest = (folder / "mine" / "manifest.yaml").read_text("utf-8")
        steps = "".join(f"  - {{id: measured{n}, use: grain-size}}\n" for n in range(5))
        (folder / "five.yaml").write_text(manifest.partition("steps:")[0] + "steps:\n" + steps, "utf-8")
        (folder / "one.yaml").write_text(manifest, "utf-8")
        values, bare = [], []
        for _ in range(count):
            bare.append(seconds([sys.executable, "-c", "pass"], folder))
            one, five = (
                seconds([*ATLAS, "run", f"{name}.yaml"], folder, PYTHONPATH=str(site))
                for name in ("one", "five")
            )
            values.append((five - one) / 4)
    what = "what a further step of a run costs that does nothing"
    return row("host.step", what, values, 0.5, statistics.median(bare), "python -c pass")


def installed(folder: Path, name: str) -> Path:
    """Write a new instrument into `mine` and install it into a folder of its own; return that."""
    site = folder / "site"
    subprocess.run([*ATLAS, "new", "instrument", name, "mine"], cwd=folder, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(folder / "mine")], check=True, capture_output=True)
    return site


def stranger(count: int) -> dict[str, Any]:
    """Measure the way from an empty folder to a plugin whose tests pass."""
    values = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            begin = time.perf_counter()
            site = installed(folder, "grain-size")
            tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
            seconds(tests, folder / "mine", PYTHONPATH=str(site))
            values.append(time.perf_counter() - begin)
    what = "`atlas new`, pip install, pytest: from an empty folder to a plugin whose tests pass"
    return row("host.stranger", what, values, 60)


def verify(count: int) -> dict[str, Any]:
    """Measure the check of a bundle of 100 MB where nothing but the host is installed."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = folder / "runs" / "PYH-SML-20261123-001"
        with Journal.create(run) as journal:
            store = Store.open(journal)
            journal.append("created", {"run_id": run.name, "atlas": "0.1.0", "governed": False})
            store.seal_together(
                "prepared", {}, [Deposit("manifest.resolved.yaml", b"steps: []\n", "resolved-manifest")]
            )
            journal.append("stage-done", {"stage": "prepare"})
            journal.append(
                "step-started",
                {"step": "x", "attempt": 1, "seed": "1", "inputs": {}, "isolation": "process", "threads": 1},
            )
            files = [Deposit(f"raw/x/{n}.bin", os.urandom(10**6), "attachment") for n in range(100)]
            store.seal_together("step-finished", {"step": "x", "attempt": 1, "seconds": "1.0"}, files)
            for stage in ("measure", "interpret", "close"):
                journal.append("stage-done", {"stage": stage})
            journal.append("finished", {"tier": "C", "conditions": []})
        seconds([*ATLAS, "pack", run.name, "--to", "out"], folder)
        bundle = next((folder / "out").glob("*.zip"))
        python = folder / "alone" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", str(folder / "alone")], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", str(ROOT)]
        subprocess.run(pip, check=True, capture_output=True)
        check = [str(python), *ATLAS[1:], "verify", str(bundle)]
        values = [seconds(check, folder) for _ in range(count)]
        sums = [
            seconds(
                [
                    sys.executable,
                    "-c",
                    "import sys, hashlib; hashlib.sha256(open(sys.argv[1], 'rb').read())",
                    str(bundle),
                ],
                folder,
            )
            for _ in range(count)
        ]
    what = "`atlas verify` of a bundle of 100 MB, 100 files, with the host alone installed, whole command"
    return row("host.verify", what, values, 5, statistics.median(sums), "sha256 of the file, by hashlib")


def reproduce(count: int) -> dict[str, Any]:
    """Measure how long it takes to repeat and grade a run of less than 30 s."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "m.yaml").write_text(TRAINING, "utf-8")
        atlas = Atlas(folder, {})
        outcome = atlas("run", "m.yaml")
        if outcome.code:
            raise SystemExit(outcome.err)
        (run,) = atlas.runs()
        recorded = sum(float(e.data["seconds"]) for e in atlas.view(run.name).of("step-finished"))
        values = [seconds([*ATLAS, "reproduce", run.name], folder) for _ in range(count)]
    what = "`atlas reproduce` of a run, whole command, beside the seconds of the steps that it repeats"
    return row("host.reproduce", what, values, 60, recorded, "the run's own steps")


ROWS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "host.help": lambda quick: started("host.help", ["--help"], 0.3, 3 if quick else 21),
    "host.plugins": lambda quick: started("host.plugins", ["plugins"], 0.4, 3 if quick else 21),
    "host.step": lambda quick: step(1 if quick else 5),
    "host.stranger": lambda quick: stranger(1 if quick else 3),
    "host.verify": lambda quick: verify(1 if quick else 5),
    "host.reproduce": lambda quick: reproduce(1 if quick else 3),
}


def main() -> int:
    """Measure the chosen rows and write each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--row", action="append", help="only rows that begin so; may be repeated")
    parser.add_argument("--quick", action="store_true", help="few repetitions, in a file of their own")
    arguments = parser.parse_args()
    chosen = [name for name in ROWS if name.startswith(tuple(arguments.row or [""]))]
    for name in chosen:
        one = ROWS[name](arguments.quick)
        write([one], RESULTS / ("host-quick.json" if arguments.quick else "host.json"))
        print(f"{name}: {one['value']:.3g} s, {one['target']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
