"""The plugin's commands: `atlas workbook` and `atlas link`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from atlas.contracts import Workspace
from atlas.errors import BadInput, WaitingForHuman
from atlas.record import RunView
from atlas_cisp.links import LinkEntry, link_sheet, sign

__all__ = ["link", "workbook"]


@click.group()
def workbook() -> None:
    """Make a run's Excel workbook, or read a filled one back."""


@workbook.command("new")
@click.argument("run")
@click.pass_obj
def _new(workspace: Workspace, run: str) -> None:
    """Write a fresh workbook of RUN, as its record stands now."""
    from atlas_cisp.workbook.write import new_copy

    view = _governed(workspace.view(run))
    path = new_copy(view)
    click.echo(
        f"wrote {path}\n"
        f"next: fill in the yellow fields, save, close, then: atlas workbook import {view.run_id}"
    )


@workbook.command("import")
@click.argument("run")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--by", help="Who signs; the workbook's operator if left out.")
@click.option("--override", metavar="REASON", help="Sign problems that may be overridden; lowers the tier.")
@click.option("--amend", is_flag=True, help="Seal another code beside one that was given before.")
@click.pass_obj
def _import(
    workspace: Workspace, run: str, file: Path | None, by: str | None, override: str | None, amend: bool
) -> None:
    """Seal what FILE holds; without FILE, the newest workbook of RUN.

    Fields that are not filled in yet are named, and can be filled in later in the same copy.
    """
    from atlas_cisp.workbook.filling import seal_answers, seal_codes
    from atlas_cisp.workbook.read import open_elsewhere, read_back

    view = _governed(workspace.view(run))
    path = file if file is not None else _newest(view)
    warning = open_elsewhere(path)
    if warning is not None:
        click.echo(f"warning: {warning}", err=True)
    filled = read_back(path, view)
    outcome = seal_answers(workspace, run, filled, author=by, override=override)
    for gate in outcome.sealed:
        click.echo(f"sealed: {gate} of {view.run_id}, with {path.name}")
    for gate in outcome.early:
        click.echo(f"not yet: {gate} is filled in, but the run has not come to it; it stays in {path.name}")
    coded = seal_codes(workspace, run, filled, coder=by, amend=amend)
    for sealed in coded:
        click.echo(f"sealed: {sealed} of {view.run_id}, with {path.name}")
    if outcome.missing:
        listed = "\n".join(f"  - {entry}" for entry in outcome.missing)
        raise WaitingForHuman(
            f"{view.run_id} still waits for:\n{listed}",
            fix=f"fill it in, save, then: atlas workbook import {view.run_id}",
        )
    if not outcome.sealed and not coded:
        click.echo("nothing to seal: the run does not wait for anything that this workbook holds")
    click.echo(f"next: atlas {'resume' if outcome.sealed else 'status'} {view.run_id}")


def _governed(view: RunView) -> RunView:
    entry = view.manifest.get("governance", "none")
    if entry == "none" or entry.get("use") != "cisp":
        raise BadInput(
            f"{view.run_id} is not governed by cisp, so it has no workbook and no link sheet",
            fix="name cisp under `governance` in the manifest, and start a new run",
        )
    return view


def _newest(view: RunView) -> Path:
    pattern = re.compile(re.escape(view.run_id) + r"(?:-(\d+))?\.xlsx")
    found = {
        int(m[1] or 1): p for p in (view.root / "workbook").glob("*.xlsx") if (m := pattern.fullmatch(p.name))
    }
    if not found:
        raise BadInput(f"{view.run_id} has no workbook", fix=f"atlas workbook new {view.run_id}")
    return found[max(found)]


@click.group()
def link() -> None:
    """Show a run's link sheet, or sign one of its entries."""


@link.command("show")
@click.argument("run")
@click.pass_obj
def _show(workspace: Workspace, run: str) -> None:
    """Show what the measured geometry of RUN may stand for, and the status of each entry."""
    for entry in link_sheet(_governed(workspace.view(run))):
        click.echo(_listed(entry))


def _listed(entry: LinkEntry) -> str:
    lines = [
        f"{entry.signal.id}: {entry.signal.signal} -> {entry.signal.term}",
        f"  {entry.signal.hypothesis}",
    ]
    lines += [f"  {measured}" for measured in entry.measured]
    if not entry.measured:
        lines.append("  not measured in this run")
    return "\n".join([*lines, f"  status: {entry.status}"])


@link.command("sign")
@click.argument("run")
@click.option("--signal", required=True, help="Which entry; `atlas link show RUN` lists them.")
@click.option("--record", required=True, metavar="ID", help="The Tier A behavioural record that supports it.")
@click.option("--by", required=True, metavar="NAME", help="Who signs.")
@click.pass_obj
def _sign(workspace: Workspace, run: str, signal: str, record: str, by: str) -> None:
    """Take an entry of RUN's link sheet out of PROVISIONAL."""
    _governed(workspace.view(run))
    click.echo(_listed(sign(workspace, run, signal, record, by)))
