"""Chat exports: the JSON files in which OpenAI and Anthropic hand a person's conversations out.

OpenAI's `conversations.json` is a list of conversations, each a tree of messages under `mapping`; the
session is the branch that ends in `current_node`. Claude's is a list of conversations with
`chat_messages`. A file may also hold one conversation, or objects with `messages` as JSON lines have
them. Conversations are decoded one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from atlas.errors import BadInput
from atlas_ecm.reader.lines import TextFile
from atlas_ecm.reader.rows import session_of, text_of
from atlas_ecm.reader.sessions import Session, Turn, role_of

__all__ = ["read_export"]

_BLANK = " \t\r\n"
_SHORT = 8
"""Characters of an identity that tell conversations of one title apart."""


def read_export(file: TextFile) -> Iterator[Session]:
    """Yield the sessions of an export.

    Raises:
        BadInput: The file is no JSON, or an entry is no conversation; the message names file and line.
    """
    for line, entry in _entries(file):
        where = f"{file.name}:{line}"
        if not isinstance(entry, dict):
            raise BadInput("the entry is no conversation", where=where)
        if isinstance(entry.get("mapping"), dict):
            yield _openai(entry, file.name, line)
        elif isinstance(entry.get("chat_messages"), list):
            yield _claude(entry, file.name, line)
        else:
            yield session_of(entry, file.name, line)


def _entries(file: TextFile) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) for each entry of the file's list, or for the file's one value.

    An entry is tried again once the text at hand has doubled, so the time stays in proportion to the file.
    """
    lines = _Buffer(file.lines())
    if not lines.skip():
        raise BadInput("the file is empty", where=f"{file.name}:1")
    if not lines.take("["):
        yield lines.value(file.name)
    elif not lines.take("]"):
        yield lines.value(file.name)
        while not lines.take("]"):
            if not lines.take(","):
                raise BadInput(
                    "expected `,` or `]` after an entry of the list", where=f"{file.name}:{lines.line}"
                )
            yield lines.value(file.name)
    if lines.skip():
        raise BadInput("more text after the end of the JSON", where=f"{file.name}:{lines.line}")


class _Buffer:
    """Text at hand, filled from lines as it is needed, and the line of the file that it begins in."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._text = ""
        self._at = 0
        self.line = 1

    def _fill(self, least: int) -> bool:
        """Add at least so many characters, if the file has them; drop what was read."""
        added, size = [self._text[self._at :]], 0
        for line in self._lines:
            added.append(line)
            size += len(line)
            if size >= least:
                break
        self._text, self._at = "".join(added), 0
        return size > 0

    def skip(self) -> bool:
        """Pass over white space; return whether anything follows."""
        while True:
            start = self._at
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            self.line += self._text.count("\n", start, self._at)
            if self._at < len(self._text):
                return True
            if not self._fill(1):
                return False

    def take(self, mark: str) -> bool:
        """Pass over a mark after white space, if it is there."""
        if not self.skip() or self._text[self._at] != mark:
            return False
        self._at += 1
        return True

    def value(self, name: str) -> tuple[int, Any]:
        """Pass over a JSON value and return it with the line where it begins."""
        self.skip()
        line, decoder = self.line, json.JSONDecoder()
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise BadInput("nested too deeply", where=f"{name}:{line}") from error
            except ValueError as error:
                if self._fill(max(len(self._text), 65536)):
                    continue
                fault = error.lineno - 1 if isinstance(error, json.JSONDecodeError) else 0
                raise BadInput(
                    f"not JSON: {getattr(error, 'msg', error)}", where=f"{name}:{line + fault}"
                ) from error
            if end == len(self._text) and not isinstance(value, (dict, list, str)) and self._fill(65536):
                continue
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            return line, value


def _openai(entry: Mapping[str, Any], name: str, line: int) -> Session:
    where, nodes = f"{name}:{line}", entry["mapping"]
    path: list[str] = []
    at = (entry.get("current_node") or _only_leaf(nodes, where)) if nodes else None
    while at is not None:
        if at in path or not isinstance(nodes.get(at), dict):
            raise BadInput(f"the branch breaks off at the message {at!r}", where=where)
        path.append(at)
        at = nodes[at].get("parent")
    turns, left_out, model = [], 0, ""
    said = {
        key for key, node in nodes.items() if isinstance(node, dict) and isinstance(node.get("message"), dict)
    }
    left_out += len(said - set(path))
    for key in reversed(path):
        if key not in said:
            continue
        message = nodes[key]["message"]
        content = message.get("content") or {}
        kind = content.get("content_type", "text")
        text, skipped = text_of(content.get("parts", content.get("text")))
        left_out += skipped
        if kind not in ("text", "multimodal_text", "code", "execution_output"):
            left_out += 1
        elif text:
            answer = role_of((message.get("author") or {}).get("role"), where)
            turns.append(Turn(answer, text))
            slug = (message.get("metadata") or {}).get("model_slug")
            model = model or (slug if answer and isinstance(slug, str) else "")
    identity = _named(entry.get("title"), entry.get("conversation_id") or entry.get("id") or where)
    return Session(identity, name, line, tuple(turns), model, "", left_out)


def _named(title: object, identity: object) -> str:
    """Return a session's name: its identity, which its title stands before where there is one."""
    words = " ".join(title.split()) if isinstance(title, str) else ""
    return f"{words} {str(identity)[:_SHORT]}" if words else str(identity)


def _only_leaf(nodes: Mapping[str, Any], where: str) -> str:
    leaves = [key for key, node in nodes.items() if isinstance(node, dict) and not node.get("children")]
    if len(leaves) != 1:
        raise BadInput(
            f"the conversation has {len(leaves)} ends and does not say which is current", where=where
        )
    return leaves[0]


def _claude(entry: Mapping[str, Any], name: str, line: int) -> Session:
    where = f"{name}:{line}"
    turns, left_out = [], 0
    for message in entry["chat_messages"]:
        if not isinstance(message, dict):
            raise BadInput(f"expected a message, found {message!r}", where=where)
        text, skipped = text_of(message.get("content") or message.get("text"))
        pieces = [text or message.get("text") or ""]
        for attached in message.get("attachments") or ():
            extract = attached.get("extracted_content") if isinstance(attached, dict) else None
            if isinstance(extract, str):
                pieces.append(extract)
            else:
                left_out += 1
        left_out += skipped + len(message.get("files") or ())
        turns.append(Turn(role_of(message.get("sender"), where), "\n".join(filter(None, pieces))))
    identity, model = _named(entry.get("name"), entry.get("uuid") or where), entry.get("model")
    return Session(identity, name, line, tuple(turns), model if isinstance(model, str) else "", "", left_out)
