"""Whether a key is found anywhere that a run leaves something: fake keys in four places, looked for in six.

    python benchmarks/synthesis.py

One governed run asks a server on loopback four times, each time with a key of its own: it lies in the
environment; the server redirects to an address that holds it; echoes it, escaped, in its answer; refuses with
it in the text that becomes an exception. The run folder, the bundle, the workbook, the journal, the logs and
the terminal are searched for any ten letters in a row of each key as it is, as in a URL and in base64. The
control repeats this with the removal of keys switched off, which shows what the search would have found.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from rows import RESULTS, result_row, write

from atlas.testing import Atlas

TESTS = Path(__file__).resolve().parents[1] / "plugins" / "synthesis" / "tests"
SWITCHED_OFF = """
from atlas_synthesis.secret import Secret

Secret.spellings = property(lambda self: ())
"""


def main() -> int:
    """Measure, print and write the row."""
    found, control = hits(control=False), hits(control=True)
    row = result_row(
        "synthesis.canary_hits",
        "fake keys in environment, URL, server echo and exception text, found in run folder, bundle, "
        f"workbook, journal, logs or terminal: hits of {len(found)} combinations; baseline: the same with "
        "the removal of keys switched off",
        sum(found.values()),
        unit="1",
        target="0",
        met=not any(found.values()),
        packages=("atlas-host", "atlas-synthesis", "openai"),
        baseline=sum(control.values()),
        baseline_version="control",
        n=len(found),
    )
    write([row], RESULTS / "synthesis.json")
    for name, pairs in (("hits", found), ("hits of the control", control)):
        print(f"{name}: {', '.join(' in '.join(pair) for pair, hit in pairs.items() if hit) or 'none'}")
    return 0


def hits(*, control: bool) -> dict[tuple[str, str], bool]:
    """Return, for each place and sink, whether the key of that place was found there."""
    parts: dict[str, Any] = runpy.run_path(str(TESTS / "conftest.py"))
    canary: dict[str, Any] = runpy.run_path(str(TESTS / "test_canary.py"))
    with tempfile.TemporaryDirectory() as folder, parts["serving"]() as server:
        atlas: Atlas = parts["with_count"](Path(folder))
        if control:
            atlas.write("site/sitecustomize.py", SWITCHED_OFF)
        os.environ.update(canary["variables"]())
        governed = partial(parts["governed_to_read_1"], atlas)
        sinks = canary["carried_through"](atlas, server, governed)
    found: dict[tuple[str, str], bool] = canary["hits"](sinks)
    return found


if __name__ == "__main__":
    sys.exit(main())
