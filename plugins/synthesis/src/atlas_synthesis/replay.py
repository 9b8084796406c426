"""The adapter `replay`: an answer that was recorded for this very package, found by the package's digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas.contracts import Answer, Interaction, Package
from atlas.errors import BadInput
from atlas.record import JOURNAL, open_record
from atlas_synthesis.answer import read_answer

__all__ = ["Replay"]


class Replay:
    """Takes answers from a run folder, or from a folder of files named `<package digest>.md`."""

    def submit(self, package: Package, params: Mapping[str, Any], interaction: Interaction) -> Answer:
        """Return the recorded answer; no model is asked.

        Raises:
            BadInput: There is none for this package, or the file is no answer.
            IntegrityBroken: A file of the run differs from what was sealed.
        """
        folder = Path(params["path"])
        found = _of_run(folder, package) if (folder / JOURNAL).is_file() else _of_folder(folder, package)
        if found is None:
            raise BadInput(
                f"no answer is recorded for the package {package.digest}",
                where=str(folder),
                fix="replay gives back answers to the same package only: same tables, same Read",
            )
        source, data = found
        facts = {"replayed_from": source, "recording.sha256": hashlib.sha256(data).hexdigest()}
        return Answer(read_answer(data, uploaded=package.upload), facts)


def _of_run(folder: Path, package: Package) -> tuple[str, bytes] | None:
    view = open_record(folder)
    for path in view.artifacts:
        if not path.endswith("/facts.json"):
            continue
        answer = path.removesuffix("facts.json") + "answer.md"
        if answer in view.artifacts and json.loads(view.read(path)).get("package.digest") == package.digest:
            return f"{view.run_id} {answer}", view.read(answer)
    return None


def _of_folder(folder: Path, package: Package) -> tuple[str, bytes] | None:
    path = folder / f"{package.digest}.md"
    return (path.name, path.read_bytes()) if path.is_file() else None
