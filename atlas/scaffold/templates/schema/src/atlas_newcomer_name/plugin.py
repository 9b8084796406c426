"""The schema, an instrument that lays its table out, and the hooks that offer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from atlas.contracts import StepContext
from atlas.hookspecs import hookimpl
from atlas.quantities import Quantity, UncertaintyKind
from atlas.tables import Column, TableSchema

SHEET = TableSchema(
    name="newcomer-name",
    version=1,
    description="One row per item; whether it is clear is a person's to say.",
    columns=(
        Column("item", "string", "The stimulus item.", required=True),
        Column("text", "string", "As it was put.", required=True),
        Column("clear", "string", "Is it clear?", enum=("clear", "unclear", "cannot tell"), judgement=True),
        Column("reason", "string", "Why, in a few words.", judgement=True),
    ),
    primary_key=("item",),
)


def lay_out(context: StepContext) -> None:
    """Write a row for each item, the judgements left blank."""
    items = [item for part in context.slices for item in part.items]
    context.table("newcomer-name", [{"item": item.id, "text": item.text} for item in items])
    context.record(Quantity("items", len(items), 0.0, UncertaintyKind.EXACT))


@hookimpl
def atlas_instruments() -> Mapping[str, Callable[[StepContext], None]]:
    """Offer the instrument under the name that the card gives it."""
    return {"newcomer-name": lay_out}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer the schema, under its name and version."""
    return {SHEET.identifier: SHEET}
