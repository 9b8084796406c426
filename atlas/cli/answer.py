"""`atlas answer`: answer an open gate that is no Read."""

from __future__ import annotations

import click

from atlas.cli.answering import obtain, signed
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("answer")
@click.argument("run")
@click.argument("gate")
@click.option("--file", help="Take the text from this file (`-`: standard input) instead of the editor.")
@click.option("--by", help="Who answers; the manifest's operator if left out.")
@click.option("--override", metavar="REASON", help="Sign problems that may be overridden; lowers the tier.")
@click.pass_obj
def command(
    workspace: LocalWorkspace, run: str, gate: str, file: str | None, by: str | None, override: str | None
) -> None:
    """Answer GATE of RUN: a checklist, or the output that a step waits for."""
    root = workspace.find(run)
    template = workspace.template(root, gate)
    author = signed(by, workspace.operator(root))
    draft = workspace.draft(root, gate)
    data, via = obtain(file, template, draft)
    workspace.answer(str(root), gate, data, author=author, via=via, override=override)
    draft.unlink(missing_ok=True)
    click.echo(f"sealed: {gate} of {root.name}\nnext: atlas resume {root.name}")
