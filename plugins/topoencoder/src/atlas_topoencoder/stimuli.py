"""The stimulus source `examples`: rows of a data set, named by their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atlas.contracts import StimulusItem

__all__ = ["ExampleSource"]


class ExampleSource:
    """Numbers of rows; the target knows the data set that they are of."""

    def items(self, params: Mapping[str, Any], folder: Path) -> Iterator[StimulusItem]:
        """Yield rows `first` to `first + count - 1`, the number as text."""
        first = params.get("first", 0)
        for row in range(first, first + params.get("count", 256)):
            yield StimulusItem(f"row-{row}", str(row))
