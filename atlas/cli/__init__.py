"""The command line: each command is a module, imported when it is called.

Commands of plugins are named in their cards, so `atlas --help` lists them without importing anything.
"""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import click

from atlas import __version__
from atlas.catalog import Catalog, Offer, discover
from atlas.errors import AtlasError, PluginFault

__all__ = ["main"]

_COMMANDS = {
    "abandon": "End a run for good, with a reason.",
    "answer": "Answer an open gate from a file or in your editor.",
    "compare": "Say what differs between two runs: inputs, environment, numbers.",
    "doctor": "Check this installation.",
    "hypothesis": "Show what became of a run's hypotheses; add one later, labelled exploratory.",
    "new": "Write the distribution of a plugin to begin with.",
    "pack": "Write a run as a bundle that a stranger can verify.",
    "plan": "Show what a manifest or run will do, and why.",
    "plugins": "List the installed plugins and what they offer.",
    "read": "Write a Technician's Read (0, 1 or 2).",
    "registry": "Compare the registry with what is installed; admit a plugin.",
    "report": "Build a run's report page.",
    "reproduce": "Measure a run or bundle again and grade every quantity.",
    "resume": "Go on with a run from where it stopped.",
    "run": "Run a manifest.",
    "runs": "List, compare and check the runs of a folder.",
    "show": "Show a run's quantities.",
    "skip": "Pass an open gate without answering it; lowers the tier.",
    "status": "Say where a run stands, or list the runs.",
    "tier": "Compute a run's tier from its record.",
    "verify": "Check a run folder or bundle.",
}
_WITHOUT_RUNS = ("new", "plugins")
"""Commands about what is installed; they start sooner, since they do not import what runs need."""


class _Atlas(click.Group):
    """The top group: its own commands by module, the plugins' by card."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        offers = (offer.name for offer in self._catalog(ctx).offers("commands"))
        return sorted({*_COMMANDS, *offers})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in _COMMANDS:
            command: click.Command = importlib.import_module(f"atlas.cli.{name}").command
            return command
        offer = next((o for o in self._catalog(ctx).offers("commands") if o.name == name), None)
        return None if offer is None else _load_command(offer)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))
        offers = sorted((o.name, o.summary) for o in self._catalog(ctx).offers("commands"))
        if offers:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(offers)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = get_close_matches(args[0], self.list_commands(ctx))
            if not close:
                raise
            raise click.UsageError(
                f"{error.message.rstrip('.')}. Did you mean {' or '.join(close)}?", ctx
            ) from error

    def _catalog(self, ctx: click.Context) -> Catalog:
        if "atlas.catalog" not in ctx.meta:
            ctx.meta["atlas.catalog"] = discover()
        catalog: Catalog = ctx.meta["atlas.catalog"]
        return catalog


def _load_command(offer: Offer) -> click.Command:
    module, _, attribute = str(offer.details.get("use", "")).partition(":")
    try:
        loaded = getattr(importlib.import_module(module), attribute)
    except AtlasError:
        raise
    except Exception as error:
        raise PluginFault(
            f"the command {offer.name!r} cannot be loaded: {type(error).__name__}: {error}", who=offer.who
        ) from error
    if not isinstance(loaded, click.Command):
        raise PluginFault(f"{offer.details.get('use')!r} is not a click command", who=offer.who)
    return loaded


@click.group(cls=_Atlas, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="atlas")
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    envvar="ATLAS_RUNS",
    show_default=True,
    show_envvar=True,
    help="Folder that holds the run folders.",
)
@click.pass_context
def _atlas(ctx: click.Context, runs: Path) -> None:
    """Governed measurements: run manifests, answer gates, verify what others measured."""
    if ctx.invoked_subcommand in _WITHOUT_RUNS:
        return
    from atlas.run.workspace import LocalWorkspace

    ctx.obj = LocalWorkspace(runs)


def _degrade(stream: IO[Any]) -> None:
    """Let a console that cannot print a character print a stand-in instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def main() -> None:
    """Run the command line and exit with the code that `atlas.errors` documents."""
    _degrade(sys.stdout)
    _degrade(sys.stderr)
    try:
        _atlas.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except AtlasError as error:
        waiting = error.exit_code == 75
        click.echo(str(error) if waiting else f"error: {error}", err=not waiting)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        # A file or folder of the user's that cannot be used; no trace of Atlas's own calls explains it.
        click.echo(
            f"error: {error.filename}: {error.strerror}\n  to do: check the path and its permissions",
            err=True,
        )
        sys.exit(AtlasError.exit_code)
