"""`atlas reproduce`: measure again what a run or bundle recorded, and grade every quantity."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from atlas.bundle.bag import opened
from atlas.bundle.grade import grade, obstacles
from atlas.cli.terminal import LiveProgress
from atlas.errors import NotReproducible
from atlas.quantities import Agreement
from atlas.run.repetition import repeat
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("reproduce")
@click.argument("what")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the repeated run in this runs folder.")
@click.pass_obj
def command(workspace: LocalWorkspace, what: str, keep: Path | None) -> None:
    """Repeat the measuring steps of a run (id or folder) or bundle and compare.

    Exit code 3: not reproducible here, or a quantity differs; the message says why.
    """
    path = Path(what) if Path(what).exists() else workspace.find(what)
    with opened(path) as recorded, tempfile.TemporaryDirectory(prefix="atlas-reproduce-") as scratch:
        reasons = obstacles(recorded)
        if reasons:
            raise NotReproducible("not reproducible here: " + "; ".join(reasons), where=recorded.run_id)
        seconds = sum(float(e.data["seconds"]) for e in recorded.of("step-finished") if "seconds" in e.data)
        click.echo(f"{recorded.run_id}: its steps took {seconds:.0f} s when they were recorded")
        with LiveProgress() as progress:
            repeated = repeat(recorded, keep or Path(scratch), workspace.host, progress)
        grades = grade(recorded, repeated)
        for item in grades:
            click.echo(f"  {item}")
        worst = max((list(Agreement).index(item.agreement) for item in grades), default=0)
        click.echo(f"{recorded.run_id}: {list(Agreement)[worst].value}")
        if list(Agreement)[worst] is Agreement.DIFFERS:
            raise NotReproducible("at least one quantity differs", where=recorded.run_id)
