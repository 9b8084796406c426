"""`atlas read`: write a Technician's Read."""

from __future__ import annotations

import click

from atlas.cli.answering import obtain, signed
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


@click.command("read")
@click.argument("number", type=click.IntRange(0, 2))
@click.argument("run")
@click.option("--file", help="Take the text from this file (`-`: standard input) instead of the editor.")
@click.option("--by", help="Who writes; the manifest's operator if left out.")
@click.option("--override", metavar="REASON", help="Sign problems that may be overridden; lowers the tier.")
@click.option("--amend", is_flag=True, help="Add to a Read that is sealed already.")
@click.pass_obj
def command(
    workspace: LocalWorkspace,
    number: int,
    run: str,
    file: str | None,
    by: str | None,
    override: str | None,
    amend: bool,
) -> None:
    """Write Read NUMBER of RUN.

    A sealed Read is never changed; --amend adds a dated text beside it.
    """
    gate = f"read-{number}"
    root = workspace.find(run)
    template = "" if amend else workspace.template(root, gate)
    author = signed(by, workspace.operator(root))
    draft = workspace.draft(root, gate + ("-amendment" if amend else ""))
    data, via = obtain(file, template, draft)
    if amend:
        path = workspace.amend(root, gate, data, author=author)
        click.echo(f"amended: {path}")
    else:
        workspace.answer(str(root), gate, data, author=author, via=via, override=override)
        click.echo(f"sealed: {gate} of {root.name}\nnext: atlas resume {root.name}")
    draft.unlink(missing_ok=True)
