"""`atlas verify`: check a run folder or a bundle, without models and plugins."""

from __future__ import annotations

from pathlib import Path

import click

from atlas.bundle.verify import verify
from atlas.errors import IntegrityBroken
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("verify")
@click.argument("what")
@click.option("--head", metavar="LENGTH:HASH", help="The journal head that was noted elsewhere.")
@click.pass_obj
def command(workspace: LocalWorkspace, what: str, head: str | None) -> None:
    """Check a run (id or folder) or bundle (.zip or bag folder), and say what that proves.

    Exit code 4 if anything differs from what was sealed.
    """
    path = Path(what) if Path(what).exists() else workspace.find(what)
    report = verify(path, head=head)
    click.echo(report.text())
    if not report.ok:
        raise IntegrityBroken(f"{len(report.findings)} finding(s)", where=what)
