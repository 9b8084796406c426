"""The instrument, the schema of its table, and the hooks that offer them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from atlas.contracts import StepContext
from atlas.hookspecs import hookimpl
from atlas.quantities import Quantity, UncertaintyKind
from atlas.tables import Column, TableSchema

ITEMS = TableSchema(
    name="newcomer-name-items",
    version=1,
    description="Characters of each item.",
    columns=(
        Column("item", "string", "The stimulus item.", required=True),
        Column("characters", "integer", "Its length.", required=True),
    ),
    primary_key=("item",),
)


def measure(context: StepContext) -> None:
    """Measure the mean length of the items of each slice."""
    rows = []
    for number, part in enumerate(context.slices, start=1):
        context.progress(f"slice {part.key}", done=number, total=len(context.slices))
        texts = [item.text if context.params["spaces"] else "".join(item.text.split()) for item in part.items]
        lengths = [len(text) for text in texts]
        rows += [
            {"item": item.id, "characters": length} for item, length in zip(part.items, lengths, strict=True)
        ]
        context.check("items", len(lengths) >= 2, f"slice {part.key} has {len(lengths)} items, needs 2")
        context.record(
            Quantity(
                "item_length",
                statistics.fmean(lengths),
                statistics.stdev(lengths) / len(lengths) ** 0.5,
                UncertaintyKind.STANDARD_ERROR,
                unit="character",
                num_samples=len(lengths),
                slice=part.key,
            )
        )
    context.table("items", rows)


@hookimpl
def atlas_instruments() -> Mapping[str, Callable[[StepContext], None]]:
    """Offer the instrument under the name that the card gives it."""
    return {"newcomer-name": measure}


@hookimpl
def atlas_schemas() -> Mapping[str, TableSchema]:
    """Offer the schema of its table."""
    return {ITEMS.identifier: ITEMS}
