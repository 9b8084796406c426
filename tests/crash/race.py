"""Lets eight processes work on one run at once, again and again.

    python race.py FOLDER ROUNDS

prints one JSON object: how many came through, and how many were refused because another process is
or was at work.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import mini_run

from atlas.errors import BadInput

DONE, REFUSED = 0, 9
REASONS = ("another atlas process", "there is a run here already")


def contend(root: Path, start: int) -> int:
    """Resume the run as soon as the pipe closes; return how that went."""
    os.read(start, 1)
    try:
        mini_run.resume(root, lambda head: None)
    except BadInput as error:
        return REFUSED if any(reason in str(error) for reason in REASONS) else 1
    return DONE


def main(folder: Path, rounds: int) -> dict[str, object]:
    """Carry out the race."""
    ended, bad = [], []
    for number in range(rounds):
        root = folder / str(number)
        reader, writer = os.pipe()
        pids = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.close(writer)
                    code = contend(root, reader)
                finally:
                    os._exit(code)
            pids.append(pid)
        os.close(reader)
        os.close(writer)
        ended += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        bad += mini_run.faults(root, set())
    return {"done": ended.count(DONE), "refused": ended.count(REFUSED), "processes": len(ended), "bad": bad}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
