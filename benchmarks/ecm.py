"""The ECM reader: its rule against marked transcripts, and its time and memory.

    python benchmarks/ecm.py [--row ID] [--quick] [--tokenizer FOLDER]

The marked transcripts are those of its tests. The many sessions are text files of 450 words, random
words of three to nine letters; the long one is a single transcript of 100 MB. Each is read by `atlas
run` in a folder of its own, and seconds and memory are those of the whole command with the processes
that it starts. `--tokenizer` names a folder with tokenizer.json; without it words are counted. `--quick`
reads a hundredth, into a file of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from atlas_ecm.reader.folder import Folder
from atlas_ecm.reader.intervals import mean_over_sessions, ratio_over_sessions
from atlas_ecm.reader.measurement import session_row
from atlas_ecm.reader.tokens import WORDS
from rows import RESULTS, result_row, write

from atlas.quantities import Quantity
from atlas.randomness import RandomStreams

TESTS = Path(__file__).resolve().parent.parent / "plugins" / "ecm" / "tests"
MARKED = {
    "": TESTS / "ecm_hand_checked.jsonl",
    "_second": TESTS / "ecm_held_out.jsonl",
    "_third": TESTS / "ecm_held_out_2.jsonl",
    "_fitted": TESTS / "ecm_fitted.jsonl",
    "_held_out": TESTS / "ecm_held_out_3.jsonl",
}
SEED = 7
SIMULATIONS = 1000
SIGMA = 0.7
WORDS_IN, WORDS_OUT = 50, 400
SETS = {
    "": "transcripts marked by hand, in view when edition 3 of the rule was written",
    "_second": "transcripts of other shapes, in view when edition 3 was written",
    "_third": "more transcripts, in view when edition 3 was written",
    "_fitted": "transcripts of another hand, to which edition 3 was fitted",
    "_held_out": "transcripts of that hand, opened once when edition 3 was done and not used since",
}
COMMAND = """
import json, resource, subprocess, sys, time
began = time.monotonic()
atlas = [sys.executable, "-c", "from atlas.cli import main; main()", "run", "m.yaml"]
subprocess.run(atlas, check=True, stdout=2)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"seconds": time.monotonic() - began, "gigabytes": used.ru_maxrss * 1024 / 1e9}))
"""


def main() -> int:
    """Run the rows that were asked for and write them beside what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--row", help="one row's id, such as ecm.preamble")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the sessions")
    parser.add_argument("--tokenizer", type=Path, help="folder that holds tokenizer.json")
    arguments = parser.parse_args()
    wanted = [group for group, ids in GROUPS.items() if arguments.row in (None, *ids)]
    if not wanted:
        parser.error(f"no row {arguments.row!r}; rows are {', '.join(i for g in GROUPS.values() for i in g)}")
    path = RESULTS / ("ecm-quick.json" if arguments.quick else "ecm.json")
    for group in wanted:
        rows = group(100 if arguments.quick else 1, arguments.tokenizer)
        write(rows, path)
        for row in rows:
            print(f"{row['id']}: {row['value']:.4g} {row['unit']}, target {row['target']}: {row['met']}")
    return 0


def marked(part: int, tokenizer: Path | None) -> list[dict[str, Any]]:
    """Preambles and ratios of the transcripts marked by hand."""
    return [row for name, path in MARKED.items() for row in _marked(name, path)]


def _marked(name: str, path: Path) -> list[dict[str, Any]]:
    known = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    pairs = list(zip((session_row(s, WORDS, "any") for s in Folder(path).sessions()), known, strict=True))
    spans = sum(
        (row["preamble"] or "") == one["span"] and row["preamble_words"] == one["span_words"]
        for row, one in pairs
    )
    what = f"of {len(known)} {SETS[name]}"
    wanted = math.ceil(0.95 * len(known))
    rows = [
        _row(f"ecm.preamble{name}", f"{what}, those with P and its span exact", spans, unit="1",
             target=f">= {wanted}", met=spans >= wanted),
    ]  # fmt: skip
    if counted := [(row, one) for row, one in pairs if "words_in" in one]:
        ratios = sum(row["token_ratio"] == one["words_out"] / one["words_in"] for row, one in counted)
        rows.append(
            _row(f"ecm.ratio{name}", f"{what}, those with R exact, words counted by wc", ratios, unit="1",
                 target=str(len(counted)), met=ratios == len(counted), baseline=len(counted),
                 baseline_version="wc -w")
        )  # fmt: skip
    return rows


def intervals(part: int, tokenizer: Path | None) -> list[dict[str, Any]]:
    """How often the 95% interval of mean R holds the mean of log-normal sessions."""
    return [_coverage(n, SIMULATIONS // part) for n in (5, 10, 30)]


def _coverage(n: int, simulations: int) -> dict[str, Any]:
    mean, held, short = math.exp(SIGMA**2 / 2), 0, 0
    for number in range(simulations):
        draw = random.Random(f"{SEED}/{n}/{number}")
        values = [draw.lognormvariate(0, SIGMA) for _ in range(n)]
        streams = RandomStreams(number)
        held += _holds(ratio_over_sessions("r", values, streams, "m"), mean)
        short += _holds(mean_over_sessions("r", values, streams, "m"), mean)
    share = held / simulations
    what = f"share of 95% intervals of mean R that hold it, {n} sessions, R log-normal with sigma {SIGMA}"
    return _row(
        f"ecm.interval_{n}", what, share, unit="1", target="", met=None, n=simulations,
        sd=math.sqrt(share * (1 - share) / simulations), baseline=short / simulations,
        baseline_version="percentile bootstrap, same draws",
    )  # fmt: skip


def _holds(quantity: Quantity, mean: float) -> bool:
    low, high = quantity.low, quantity.high
    return low is not None and high is not None and low <= mean <= high


def many(part: int, tokenizer: Path | None) -> list[dict[str, Any]]:
    """Ten thousand sessions, a file each."""
    count, draw = 10_000 // part, random.Random(SEED)

    def lay(folder: Path) -> None:
        for number in range(count):
            put, said = _text(draw, WORDS_IN), _text(draw, WORDS_OUT)
            (folder / f"{number:05}.txt").write_text(f"User: {put}\nAssistant: Sure! {said}\n", "utf-8")

    used = _run(lay, tokenizer)
    what = f"{count} sessions of {WORDS_IN + WORDS_OUT} words in files of their own, {_counted(tokenizer)}, "
    return [
        _row("ecm.sessions_seconds", what + "whole command", used["seconds"], unit="s",
             target="<= 60", met=used["seconds"] <= 60),
        _row("ecm.sessions_memory", what + "largest process", used["gigabytes"], unit="GB",
             target="<= 1", met=used["gigabytes"] <= 1),
    ]  # fmt: skip


def long(part: int, tokenizer: Path | None) -> list[dict[str, Any]]:
    """One transcript of 100 MB."""
    size, draw = 100_000_000 // part, random.Random(SEED)

    def lay(folder: Path) -> None:
        with (folder / "long.txt").open("w", encoding="utf-8") as stream:
            written = stream.write("User: What is in it?\nAssistant:\n")
            paragraphs = [_text(draw, WORDS_OUT) + "\n" for _ in range(100)]
            while written < size:
                written += stream.write(draw.choice(paragraphs))

    used = _run(lay, tokenizer)
    what = f"one transcript of {size / 1e6:.0f} MB, {_counted(tokenizer)}, "
    return [
        _row("ecm.long_seconds", what + "whole command", used["seconds"], unit="s", target="",
             met=None),
        _row("ecm.long_memory", what + "largest process", used["gigabytes"], unit="GB", target="",
             met=None),
    ]  # fmt: skip


def _text(draw: random.Random, words: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(words))


def _counted(tokenizer: Path | None) -> str:
    return "words counted" if tokenizer is None else f"tokens of {tokenizer.name} counted"


def _run(lay: Callable[[Path], None], tokenizer: Path | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sessions").mkdir()
        lay(folder / "sessions")
        params = {"sessions": "./sessions", "model": "any"}
        if tokenizer is not None:
            params["tokenizer"] = str(tokenizer.resolve())
        step = {"id": "sessions", "use": "ecm", "params": params}
        manifest = {"atlas": 1, "name": "many", "lineage": "BEN", "seed": SEED, "governance": "none"}
        (folder / "m.yaml").write_text(json.dumps(manifest | {"steps": [step]}), "utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [sys.executable, "-c", COMMAND], cwd=folder, env=environment, stdout=subprocess.PIPE, check=True
        )
    used: dict[str, float] = json.loads(ended.stdout)
    return used


def _row(identifier: str, what: str, value: float, **more: Any) -> dict[str, Any]:
    return result_row(identifier, what, value, packages=("atlas-ecm", "tokenizers", "numpy"), **more)


GROUPS: Mapping[Callable[[int, Path | None], list[dict[str, Any]]], tuple[str, ...]] = {
    marked: (
        *(f"ecm.preamble{name}" for name in MARKED),
        *(f"ecm.ratio{name}" for name in ("", "_second", "_third")),
    ),
    intervals: ("ecm.interval_5", "ecm.interval_10", "ecm.interval_30"),
    many: ("ecm.sessions_seconds", "ecm.sessions_memory"),
    long: ("ecm.long_seconds", "ecm.long_memory"),
}


if __name__ == "__main__":
    sys.exit(main())
