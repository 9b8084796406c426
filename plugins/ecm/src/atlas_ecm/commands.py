"""`atlas bsa`: collect models' answers to the paired claims by hand, and make a record of them."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import click

from atlas.contracts import Workspace
from atlas.errors import BadInput
from atlas.quantities import UncertaintyKind
from atlas.record import RunView
from atlas_ecm.answers import Answers, read_answers
from atlas_ecm.claims import TIERS, VERSIONS, load
from atlas_ecm.delivery import COLUMNS, LARGEST
from atlas_ecm.records import record_facts, seal
from atlas_ecm.schemas import SCORES

__all__ = ["bsa"]

_version = click.option(
    "--version",
    type=click.Choice(VERSIONS),
    default=VERSIONS[-1],
    show_default=True,
    help="Release of the claims.",
)
_partial = click.option("--partial", is_flag=True, help="Accept pairs that no model answered.")
_path = click.Path(dir_okay=False, path_type=Path)
_file = click.argument("file", type=_path)


@click.group()
def bsa() -> None:
    """Collect models' answers to the paired claims by hand, and make a record of them."""


@bsa.command()
@_version
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option(
    "--separator",
    type=click.Choice(["comma", "semicolon"]),
    default="comma",
    show_default=True,
    help="Of the CSV; spreadsheets set to a decimal comma open the semicolon.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME=LINEAGE",
    help="Write a row per claim for this model; repeat it for each.",
)
@click.option(
    "--tier", "tiers", type=click.Choice(TIERS), multiple=True, help="Only this tier; may be repeated."
)
@click.option("--pair", "pairs", metavar="PAIR", multiple=True, help="Only this pair; may be repeated.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="File instead of stdout."
)
def template(
    version: str,
    form: str,
    separator: str,
    models: tuple[str, ...],
    tiers: tuple[str, ...],
    pairs: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write a file to fill in: a row for each claim and model, with the prompt to paste.

    Put each prompt into a fresh session of the model, nothing else, and copy its first answer.
    """
    release = load(version)
    unknown = sorted(set(pairs) - set(release.pairs))
    if unknown:
        raise BadInput(f"{', '.join(unknown)}: no pair of bsa {version}", where="--pair")
    named = [model.rpartition("=") for model in models] or [("", "", "")]
    if bad := [model for model in models if "=" not in model]:
        raise BadInput(f"{', '.join(bad)}: write NAME=LINEAGE, such as smollm2-135m=SML", where="--model")
    rows = [
        {
            "claim_id": claim.id,
            "model": model,
            "lineage": lineage,
            "prompt": release.prompt(claim),
            "score": "",
            "answer": "",
        }
        for model, _, lineage in named
        for claim in release.claims
        if (not tiers or claim.tier in tiers) and (not pairs or claim.pair in pairs)
    ]
    if form == "jsonl":
        data = "".join(json.dumps(row) + "\n" for row in rows).encode("ascii")
    else:
        buffer = io.StringIO(newline="")
        delimiter = ";" if separator == "semicolon" else ","
        writer = csv.DictWriter(buffer, COLUMNS, delimiter=delimiter, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
        # Excel takes a CSV for the machine's old code page unless a byte order mark says UTF-8.
        data = buffer.getvalue().encode("utf-8-sig")
    if output is None:
        sys.stdout.buffer.write(data)
        return
    try:
        with output.open("xb") as stream:
            stream.write(data)
    except FileExistsError as error:
        raise BadInput("the file exists; it is not overwritten", where=str(output)) from error
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror or error}", where=str(output)) from error
    click.echo(
        f"wrote {len(rows)} rows to {output}; fill in score and answer, then: atlas bsa check {output}"
    )


def _read(file: Path, version: str, partial: bool) -> tuple[bytes, Answers]:
    try:
        if file.stat().st_size > LARGEST:
            raise BadInput(f"larger than {LARGEST} bytes", where=str(file))
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(
            f"cannot be read: {error.strerror or error}",
            where=str(file),
            fix="give the path of a filled-in file; `atlas bsa template` writes one to fill in",
        ) from error
    return data, read_answers(data, file.name, load(version), partial=partial)


def _describe(answers: Answers) -> str:
    models = ", ".join(f"{model} ({answers.lineages[model]})" for model in answers.models)
    covered = f"{len(answers.pairs)} of {len(answers.release.pairs)} pairs"
    text = f"{covered}, {len(answers.entries)} answers: {models}"
    return text + (f"\n{answers.shortfall}" if answers.shortfall else "")


@bsa.command()
@_file
@_version
@_partial
def check(file: Path, version: str, partial: bool) -> None:
    """Check a filled-in FILE without making a record; every fault is listed."""
    _, answers = _read(file, version, partial)
    click.echo(f"{file}: sound\n{_describe(answers)}")


@bsa.command("import")
@_file
@click.option("--lineage", required=True, help="Two to four letters for the record's id.")
@_version
@_partial
@click.option("--operator", default="", help="Who collected the answers.")
@click.pass_obj
def import_(
    workspace: Workspace, file: Path, lineage: str, version: str, partial: bool, operator: str
) -> None:
    """Make a sealed record of a filled-in FILE (CSV or JSON lines)."""
    data, answers = _read(file, version, partial)
    record = seal(
        workspace, answers, lineage=lineage, delivered=data, name=file.name, operator=operator.strip()
    )
    click.echo(f"{_describe(answers)}\nrecord: {record}")
    click.echo(f"next: atlas bsa show {record}; a manifest names it so:")
    click.echo(f'  governance: {{use: cisp, version: "1.1", bsa_record: {record}}}')


@bsa.command()
@click.argument("record")
@click.pass_obj
def show(workspace: Workspace, record: str) -> None:
    """Show what a RECORD covers, and its scores by tier and model."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    view = workspace.view(record)
    facts = record_facts(view)
    click.echo(f"{view.run_id}: {facts['stimulus']}, {len(facts['pairs'].split())} pairs")
    click.echo(f"models: {facts['model_lineages']}\nminimum: {facts['minimum']}")
    table = Table(
        "quantity", "tier", "truth", "model", "value", "95% interval", "n", box=SIMPLE_HEAD, padding=0
    )
    for row in _score_rows(view):
        if row["pair"] is None:
            undefined = row["uncertainty_kind"] == UncertaintyKind.UNDEFINED.value
            table.add_row(
                row["quantity"],
                row["tier"],
                row["truth"] or "",
                row["model"] or "all",
                "undefined" if undefined else f"{row['value']:.1f}",
                row["note"] if row["low"] is None else f"{row['low']:.1f} to {row['high']:.1f}",
                str(row["num_samples"]),
            )
    Console().print(table)


def _score_rows(view: RunView) -> list[dict[str, Any]]:
    path = next(path for path in view.artifacts if path.endswith(f"/{SCORES.name}.csv"))
    return view.tables(path.split("/")[1])[SCORES.name]
