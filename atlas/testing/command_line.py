"""The fixture that runs real manifests through the real command line, in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen

if TYPE_CHECKING:
    from atlas.record import RunView

__all__ = ["Atlas", "Outcome", "atlas"]


@frozen
class Outcome:
    """How a command ended.

    Attributes:
        code: Exit code, as `atlas.errors` lists them.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str


@frozen
class Atlas:
    """The command line in a folder of its own.

    Attributes:
        folder: Where manifests are written and commands start; runs go to `folder/runs`.
        environment: Variables added to the process's own.
    """

    folder: Path
    environment: Mapping[str, str]

    def __call__(self, *arguments: str, stdin: str | None = None) -> Outcome:
        """Run `atlas ARGUMENTS...` in a process of its own."""
        code = "from atlas.cli import main; main()"
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    def write(self, name: str, text: str) -> Path:
        """Write a file below the folder and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def runs(self) -> list[Path]:
        """Return the run folders, oldest first."""
        found = [p for p in (self.folder / "runs").glob("*") if (p / "journal.jsonl").is_file()]
        return sorted(found, key=lambda path: path.name)

    def view(self, run: str) -> RunView:
        """Return a run by its id."""
        from atlas.record import open_record

        return open_record(self.folder / "runs" / run)

    def show(self, run: str) -> dict[str, Any]:
        """Return what `atlas show RUN --json` prints."""
        outcome = self("show", run, "--json")
        if outcome.code != 0:
            raise AssertionError(outcome.err)
        record: dict[str, Any] = json.loads(outcome.out)
        return record


@pytest.fixture
def atlas(tmp_path: Path) -> Callable[..., Outcome]:
    """The command line in an empty folder: `atlas("run", "m.yaml")`; see `Atlas`."""
    return Atlas(tmp_path, {})
