"""A key: taken from one named variable of the environment, and removed from all that leaves the adapter.

The step's process gets the variable that the manifest names and no other key. It is taken out of the
environment when it is read, so that nothing started later inherits it.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from urllib.parse import quote

from attrs import field, frozen

from atlas.errors import BadInput

__all__ = ["MARK", "SHORTEST", "Secret", "take"]

MARK = "[key removed]"
SHORTEST = 8
"""Letters of the shortest key: a shorter text would be found, and removed, in the middle of words."""


@frozen
class Secret:
    """A key and the spellings in which it could come back.

    Attributes:
        name: The variable that held it; None where the server wants no key.
        value: The key; empty where there is none.
    """

    name: str | None
    value: str = field(default="", repr=False)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The key as it is, in a URL, in JSON and in base64, longest first."""
        if not self.value:
            return ()
        data = self.value.encode("ascii")
        coded = {base64.b64encode(data), base64.urlsafe_b64encode(data)}
        found = {self.value, quote(self.value, safe=""), json.dumps(self.value)[1:-1]}
        found |= {code.decode("ascii").rstrip("=") for code in coded}
        return tuple(sorted(found, key=lambda spelling: (-len(spelling), spelling)))

    def scrub(self, text: str) -> str:
        """Return a text with a mark where the key stood."""
        for spelling in self.spellings:
            text = text.replace(spelling, MARK)
        return text

    def scrub_bytes(self, data: bytes) -> bytes:
        """Return bytes with a mark where the key stood, also behind the escapes of JSON.

        Bytes without the key come back as they are.
        """
        for spelling in self.spellings:
            data = data.replace(spelling.encode("ascii"), MARK.encode("ascii"))
        if not self.value or b"\\" not in data:
            return data
        try:
            tree = json.loads(data)
        except ValueError:
            return data
        clean = self._scrub_tree(tree)
        return data if clean == tree else json.dumps(clean, ensure_ascii=False).encode("utf-8")

    def _scrub_tree(self, tree: Any) -> Any:
        if isinstance(tree, str):
            return self.scrub(tree)
        if isinstance(tree, list):
            return [self._scrub_tree(item) for item in tree]
        if isinstance(tree, dict):
            return {self.scrub(key): self._scrub_tree(item) for key, item in tree.items()}
        return tree


def take(name: str | None) -> Secret:
    """Take the key out of the environment; None names no key.

    Raises:
        BadInput: The variable is not set, or holds nothing that could be sent as a key. The message does
            not show it.
    """
    if name is None:
        return Secret(None)
    value = os.environ.pop(name, "").strip()
    if not value:
        raise BadInput(
            f"the environment variable {name} is not set where Atlas runs",
            fix=f"set {name} to the key, then atlas resume; without a key, leave out `key_from`",
        )
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadInput(f"what {name} holds is no key: it has spaces, line breaks or letters beyond ASCII")
    if len(value) < SHORTEST:
        raise BadInput(
            f"what {name} holds is shorter than {SHORTEST} characters, which is no key",
            fix="leave out `key_from` where the server wants no key",
        )
    return Secret(name, value)
