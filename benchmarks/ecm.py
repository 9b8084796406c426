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
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from atlas_ecm.reader.folder import Folder
from atlas_ecm.reader.measurement import session_row
from atlas_ecm.reader.tokens import WORDS

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results"
MARKED = ROOT.parent / "plugins" / "ecm" / "tests" / "ecm_hand_checked.jsonl"
SEED = 7
WORDS_IN, WORDS_OUT = 50, 400
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
    known = [json.loads(line) for line in MARKED.read_text("utf-8").splitlines()]
    rows = [session_row(session, WORDS, "any") for session in Folder(MARKED).sessions()]
    pairs = list(zip(rows, known, strict=True))
    spans = sum(
        (row["preamble"] or "") == one["span"] and row["preamble_words"] == one["span_words"]
        for row, one in pairs
    )
    ratios = sum(row["token_ratio"] == one["words_out"] / one["words_in"] for row, one in pairs)
    what = f"of {len(known)} transcripts marked by hand, those with"
    return [
        _row("ecm.preamble", f"{what} P and its span exact; rule widened once, after 37 of the same 40",
             spans, len(known), unit="1", target=">= 38", met=spans >= 38),
        _row("ecm.ratio", f"{what} R exact, words counted by wc", ratios, len(known), unit="1",
             target="40", met=ratios == len(known), baseline_version="wc -w"),
    ]  # fmt: skip


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
        _row("ecm.sessions_seconds", what + "whole command", used["seconds"], None, unit="s",
             target="<= 60", met=used["seconds"] <= 60),
        _row("ecm.sessions_memory", what + "largest process", used["gigabytes"], None, unit="GB",
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
        _row("ecm.long_seconds", what + "whole command", used["seconds"], None, unit="s", target="",
             met=None),
        _row("ecm.long_memory", what + "largest process", used["gigabytes"], None, unit="GB", target="",
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


def _row(
    identifier: str,
    what: str,
    value: float,
    baseline: float | None,
    *,
    unit: str,
    target: str,
    met: bool | None,
    baseline_version: str = "none",
) -> dict[str, Any]:
    return {
        "id": identifier,
        "what": what,
        "value": value,
        "sd": None,
        "n": 1,
        "unit": unit,
        "baseline": baseline,
        "baseline_version": baseline_version if baseline is None else baseline_version.replace("none", "all"),
        "target": target,
        "met": met,
        "machine": f"{platform.machine()}, 1 thread, {platform.system()}",
        "versions": {name: importlib.metadata.version(name) for name in ("atlas-ecm", "tokenizers")},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows, those of the same id replaced, the others kept."""
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else []
    fresh = {row["id"]: row for row in rows}
    merged = [fresh.pop(row["id"], row) for row in kept] + list(fresh.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merged, indent=2) + "\n", "utf-8")


GROUPS: Mapping[Callable[[int, Path | None], list[dict[str, Any]]], tuple[str, ...]] = {
    marked: ("ecm.preamble", "ecm.ratio"),
    many: ("ecm.sessions_seconds", "ecm.sessions_memory"),
    long: ("ecm.long_seconds", "ecm.long_memory"),
}


if __name__ == "__main__":
    sys.exit(main())
