"""What steps keep from one attempt to the next: private folders beside the record, never part of it.

A folder's name holds a digest of all that the host knows the step to depend on: plugins, parameters,
stimulus, inputs, seed, threads, target, interpreter and processor. After any change of it the step finds
an empty folder, and the old one is gone. What only the step can know, such as the digest of a model's
weights, it has to compare itself. A folder goes once its step is sealed or passed over, or the run over.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict

from atlas.record import RunView
from atlas.run.inventory import cpu_name
from atlas.run.messages import StepRequest

__all__ = ["KEPT", "keep", "kept_key", "sweep"]

KEPT = ".kept"
"""Folder of a run in which steps keep what an interruption shall not cost; no record, never packed."""

_PATHS = ("inputs", "keep", "out", "scratch")


def kept_key(request: StepRequest, inputs: Mapping[str, str], plugins: Mapping[str, Any]) -> str:
    """Return a digest of what a step depends on.

    Args:
        request: The request; its paths, which are new with every attempt, are left out.
        inputs: Path in the run folder -> sha256 of what the step sees.
        plugins: Distribution, version and card of every admitted plugin.
    """
    asked = {name: value for name, value in asdict(request).items() if name not in _PATHS}
    machine = [sys.version, platform.platform(), platform.machine(), cpu_name()]
    text = json.dumps([asked, dict(inputs), dict(plugins), machine], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def keep(root: Path, step: str, key: str) -> Path:
    """Return the folder of a step, made if need be, and remove those that it kept under another key.

    Raises:
        OSError: It cannot be made.
    """
    folder = root / KEPT / f"{step}@{key}"
    for other in _folders(root):
        if _owner(other) == step and other != folder:
            _remove(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sweep(root: Path, view: RunView) -> None:
    """Remove the folders of steps that will not run again; what cannot be removed is left for the next."""
    over = {*view.finished_steps(), *(e.data["step"] for e in view.of("step-passed-over"))}
    over |= {name for name, gate in view.gates.items() if gate.skipped is not None}
    ended = view.state in ("done", "abandoned")
    for folder in _folders(root):
        if ended or _owner(folder) in over:
            _remove(folder)
    if (root / KEPT).is_dir() and not _folders(root):
        (root / KEPT).rmdir()


def _folders(root: Path) -> list[Path]:
    kept = root / KEPT
    return sorted(kept.iterdir()) if kept.is_dir() and not kept.is_symlink() else []


def _owner(folder: Path) -> str:
    return folder.name.rpartition("@")[0]


def _remove(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)
