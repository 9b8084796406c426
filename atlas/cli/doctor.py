"""`atlas doctor`: is this installation sound, and what of it is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from atlas import API, __version__
from atlas.catalog import discover
from atlas.errors import AtlasError, BadInput
from atlas.registry import Registry
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]

_OK, _NOTE, _BAD = "ok  ", "note", "BAD "


def _python() -> Iterator[tuple[str, str]]:
    yield _OK, f"atlas {__version__}, plugin interface {API}"
    yield _OK, f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    pip = [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"]
    result = subprocess.run(pip, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        yield _OK, "pip check: no broken requirements"
    else:
        for line in result.stdout.strip().splitlines() or ["pip is not installed here"]:
            yield _BAD, f"pip check: {line}"


def _torch() -> Iterator[tuple[str, str]]:
    try:
        found = version("torch")
    except PackageNotFoundError:
        yield _NOTE, "torch is not installed: verifying works, measuring does not"
        return
    major, minor = (int(part) for part in found.split(".")[:2])
    if (major, minor) < (2, 6):
        yield _BAD, f"torch {found}: loading weights is safe from 2.6 on; pip install 'torch>=2.6'"
    else:
        yield _OK, f"torch {found}"
    if importlib.util.find_spec("torchvision") is not None:
        yield _NOTE, "torchvision is installed; nothing here needs it"


def _plugins() -> Iterator[tuple[str, str]]:
    catalog = discover()
    registry = Registry.find(Path.cwd())
    for card in catalog.cards:
        if card.fault is not None:
            yield _BAD, f"{card.who}: {card.fault}"
            continue
        reason = registry.admits(card)
        yield (_OK, f"{card.who}: admitted") if reason is None else (_NOTE, f"{card.who}: {reason}")
    for clash in catalog.clashes():
        yield _BAD, clash
    yield _OK, f"registry: {registry.path}"


def _surroundings(runs: Path) -> Iterator[tuple[str, str]]:
    folder = runs if runs.exists() else Path.cwd()
    free = shutil.disk_usage(folder).free / 1e9
    yield (_OK if free > 5 else _NOTE), f"{free:.0f} GB free for runs in {runs}"
    if not os.access(folder, os.W_OK):
        yield _BAD, f"{folder} cannot be written to"
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    yield (_OK, f"editor: {editor}") if editor else (_NOTE, "no $EDITOR: Reads are given with --file")
    program = shutil.which("soffice") or shutil.which("libreoffice")
    yield (_OK, "LibreOffice found") if program else (_NOTE, "LibreOffice not found; any spreadsheet will do")


@click.command("doctor")
@click.pass_obj
def command(workspace: LocalWorkspace) -> None:
    """Check this installation; exit code 2 if something is broken."""
    broken = 0
    for part in (_python(), _torch(), _plugins(), _surroundings(workspace.runs)):
        try:
            for mark, line in part:
                click.echo(f"{mark}  {line}")
                broken += mark == _BAD
        except AtlasError as error:
            click.echo(f"{_BAD}  {error}")
            broken += 1
    if broken:
        raise BadInput(f"{broken} thing(s) to mend")
