"""An instrument, the schema of its table, and the hooks that offer them."""

import math
import re
from html import escape

from atlas.contracts import Fragment, StepContext
from atlas.hookspecs import hookimpl
from atlas.quantities import Quantity, UncertaintyKind
from atlas.tables import Column, TableSchema

WORDS = TableSchema(
    name="example-words",
    version=1,
    description="Words and letters of each stimulus item.",
    columns=(
        Column("item", "string", "The stimulus item.", required=True),
        Column("words", "integer", "Words that were counted.", required=True),
        Column("letters", "integer", "Letters in them.", required=True),
    ),
    primary_key=("item",),
)


def word_length(context: StepContext) -> None:
    """Measure the mean word length of each slice."""
    rows = []
    for number, part in enumerate(context.slices, start=1):
        context.progress(f"slice {part.key}", done=number, total=len(context.slices))
        lengths: list[int] = []
        for item in part.items:
            found = [len(word) for word in re.findall(r"[^\W\d_]+", item.text)]
            kept = [length for length in found if length >= context.params["at_least"]]
            rows.append({"item": item.id, "words": len(kept), "letters": sum(kept)})
            lengths += kept
        context.check("words", len(lengths) >= 2, f"slice {part.key} has {len(lengths)} words, needs 2")
        mean = sum(lengths) / len(lengths)
        variance = sum((length - mean) ** 2 for length in lengths) / (len(lengths) - 1)
        context.record(
            Quantity(
                "word_length",
                mean,
                math.sqrt(variance / len(lengths)),
                UncertaintyKind.STANDARD_ERROR,
                unit="letter",
                num_samples=len(lengths),
                slice=part.key,
            )
        )
    context.table("words", rows)


def show_words(view, step):
    """Render a step for the report: the words of each item and their mean length."""
    rows = "".join(
        f"<tr><td>{escape(row['item'])}</td><td>{row['words']}</td>"
        f"<td>{row['letters'] / row['words']:.2f}</td></tr>"
        for row in view.tables(step)["words"]
        if row["words"]
    )
    return Fragment("Words", f"<table><tr><th>item<th>words<th>mean letters</tr>{rows}</table>")


@hookimpl
def atlas_instruments():
    """Offer the instrument under the name that the card gives it."""
    return {"word-length": word_length}


@hookimpl
def atlas_schemas():
    """Offer the schema of its table."""
    return {WORDS.identifier: WORDS}


@hookimpl
def atlas_report_sections():
    """Offer the section that shows its steps in a report."""
    return {"words": show_words}
