"""The contract of synthesis adapters: one upload, one answer, and no key in what is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
from attrs import define, field

from atlas.contracts import Answer, Package, SynthesisAdapter

__all__ = ["Meeting", "SynthesisContract", "meeting", "package"]

_CANARY = "canary-5f1c0d2e"


@define
class Meeting:
    """An interaction with one model that keeps what it is told.

    Attributes:
        brought: The answer that a person brought, or None.
        notes: What was journaled, in order: name and detail.
        begins: What was said as output began.
    """

    brought: bytes | None = None
    notes: list[tuple[str, str]] = field(factory=list)
    begins: list[str] = field(factory=list)

    def note(self, name: str, detail: str) -> None:
        """Keep a note."""
        self.notes.append((name, detail))

    def begun(self, detail: str) -> None:
        """Keep that output has begun."""
        self.begins.append(detail)


@pytest.fixture
def meeting() -> Meeting:
    """An interaction for an adapter under test; see `Meeting`."""
    return Meeting()


@pytest.fixture
def package() -> Callable[[bytes], Package]:
    """A function that makes a package of one file whose upload is the bytes that it is given."""
    return _package


def _package(upload: bytes) -> Package:
    return Package(hashlib.sha256(upload).hexdigest(), {"raw/step/table.csv": upload}, upload)


class SynthesisContract:
    """Subclass it as `Test...`, name the adapter and parameters by which it answers at once.

    Attributes:
        adapter: The adapter under test, which asks nobody but what the test has started.
        params: Parameters as the card fills them in.
        key: Name of the environment variable that the adapter takes a key from; None for none.
    """

    adapter: ClassVar[SynthesisAdapter]
    params: ClassVar[Mapping[str, Any]]
    key: ClassVar[str | None] = None

    def _answer(self, meeting: Meeting) -> Answer:
        answer = self.adapter.submit(_package("a table, and ä\n".encode()), self.params, meeting)
        assert isinstance(answer, Answer), "it asked for a person"
        return answer

    def test_one_upload_has_one_answer(self, meeting: Meeting) -> None:
        """The answer is text, and the journal knows before it that output began, once."""
        answer = self._answer(meeting)
        assert answer.text.strip()
        assert len(meeting.begins) == 1
        assert meeting.notes, "journal what happens with `interaction.note`"
        assert all(isinstance(value, str) for value in answer.facts.values())
        assert all(isinstance(data, bytes) for data in answer.files.values())

    def test_no_key_is_in_what_it_leaves(
        self, meeting: Meeting, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Neither facts nor files nor the journal nor the terminal has the key, or any of the environment."""
        monkeypatch.setenv(self.key or "ATLAS_TEST_KEY", _CANARY)
        answer = self._answer(meeting)
        printed = capfd.readouterr()
        left = [*answer.facts.values(), *meeting.begins, *(d for _, d in meeting.notes), *printed]
        assert not [text for text in left if _CANARY in text]
        assert not [name for name, data in answer.files.items() if _CANARY.encode() in data]
