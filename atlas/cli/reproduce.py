"""`atlas reproduce`: measure again what a run or bundle recorded, and grade every quantity."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from atlas.bundle.comparison import check_open
from atlas.bundle.grade import grade, identical_tables, obstacles
from atlas.bundle.opening import opened
from atlas.catalog import Catalog
from atlas.cli.terminal import LiveProgress
from atlas.errors import NotReproducible
from atlas.quantities import Agreement
from atlas.record import RunView
from atlas.run.repetition import repeat
from atlas.run.workspace import LocalWorkspace

__all__ = ["command"]


def _other_plugins(recorded: RunView, catalog: Catalog) -> list[str]:
    """Return which plugins are not, by version and card, the ones that the record was made with."""
    pins = json.loads(recorded.read("environment/plugins.json"))["plugins"]
    cards = {card.plugin: card for card in catalog.cards}
    return [
        f"plugin {name!r} is {cards[name].version}, card {cards[name].sha256[:12]}; the record was made with "
        f"{pin['version']}, card {pin['card_sha256'][:12]}, so differences may be its own"
        for name, pin in pins.items()
        if name in cards and (cards[name].version, cards[name].sha256) != (pin["version"], pin["card_sha256"])
    ]


def _changed_weights(recorded: RunView, repeated: RunView) -> list[str]:
    """Return the weight files whose digest differs from the record's, `step: file`."""
    changed = []
    for step in repeated.finished_steps():
        path = f"raw/{step}/facts.json"
        if path in recorded.artifacts and path in repeated.artifacts:
            before, now = json.loads(recorded.read(path)), json.loads(repeated.read(path))
            names = [n for n in before if n.startswith(("target.", "targets.")) and ".sha256:" in n]
            changed += [f"{step}: {n.partition('sha256:')[2]}" for n in names if now.get(n) != before[n]]
    return changed


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
        check_open([recorded])
        reasons = obstacles(recorded)
        if reasons:
            raise NotReproducible("not reproducible here: " + "; ".join(reasons), where=recorded.run_id)
        seconds = sum(float(e.data["seconds"]) for e in recorded.of("step-finished") if "seconds" in e.data)
        click.echo(f"{recorded.run_id}: its steps took {seconds:.0f} s when they were recorded")
        for note in _other_plugins(recorded, workspace.catalog):
            click.echo(f"note: {note}", err=True)
        with LiveProgress() as progress:
            repeated = repeat(recorded, keep or Path(scratch), workspace.host, progress)
        changed = _changed_weights(recorded, repeated)
        if changed:
            raise NotReproducible(
                f"not reproducible here: other weights were measured: {', '.join(changed)}",
                where=recorded.run_id,
            )
        grades = grade(recorded, repeated)
        for item in grades:
            click.echo(f"  {item}")
        tables = identical_tables(recorded, repeated)
        click.echo(f"  {sum(tables.values())} of {len(tables)} raw tables are the same byte for byte")
        worst = max((list(Agreement).index(item.agreement) for item in grades), default=0)
        click.echo(f"{recorded.run_id}: {list(Agreement)[worst].value}")
        if list(Agreement)[worst] is Agreement.DIFFERS:
            raise NotReproducible("at least one quantity differs", where=recorded.run_id)
