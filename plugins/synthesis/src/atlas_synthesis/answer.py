"""What counts as an answer of a synthesis model, whichever way it came."""

from __future__ import annotations

from atlas.errors import BadInput

__all__ = ["LARGEST", "read_answer"]

LARGEST = 2 * 2**20
"""Bytes beyond which nothing is taken for an answer: over three hundred thousand words."""


def read_answer(data: bytes, *, uploaded: bytes) -> str:
    """Return an answer's text as it is.

    Args:
        data: The answer's bytes.
        uploaded: What was put before the model, which is sometimes brought back by mistake.

    Raises:
        BadInput: It is empty, binary, longer than `LARGEST`, or the upload itself.
    """
    if len(data) > LARGEST:
        raise BadInput(f"the answer has {len(data)} bytes, more than {LARGEST}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"the answer is not UTF-8 text: {error}", fix="save it as UTF-8 text") from error
    if "\0" in text:
        raise BadInput("the answer holds NUL characters: it is no text file", fix="save it as UTF-8 text")
    if not text.strip():
        raise BadInput("the answer is empty")
    if text.split() == uploaded.decode("utf-8").split():
        raise BadInput("this is the file that was to be uploaded, not the model's answer to it")
    return text
