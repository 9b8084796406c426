"""The one fixture of these tests; what it tells is in `cisp_stories`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cisp_stories import MOVES, RUN_ID, Story, Tell

from atlas.record import RunView, open_record
from atlas.run.journal import Journal


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """Return a function that makes a run of these moves, its world changed by keywords, and views it."""

    def make(moves: Iterable[str] = MOVES, **world: Any) -> RunView:
        root = tmp_path / "runs" / RUN_ID
        with Journal.create(root) as journal:
            story = Story(root, journal, **world)
            for name in moves:
                story.move(name)
        return open_record(root)

    return make
