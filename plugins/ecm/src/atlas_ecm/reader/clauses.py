"""How the beginning of an answer is cut into the clauses that the rule for the preamble looks at.

A clause is a sentence, or a line, without what leads into it: words of courtesy up to their mark,
throat-clearing before `that`, a stage direction between stars, a clause about the model before `but`, and
an opening up to its comma that has no content of its own. Each of those is a clause too. A block ends the
cutting: code, a heading, a table, a list, a quotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import frozen

from atlas_ecm.reader.vocabulary import classes_of, key_of, wording

__all__ = ["Clause", "clauses", "content", "tokens"]

SENTENCES = 10
"""Sentences that are looked at: no preamble of the marked transcripts has more than five."""

LONGEST = 600
"""Characters of the longest sentence that can be preamble; of a longer one only what leads into it can."""

_PICTURES = "\u2600-\u27bf\ufe0f\u200d\U0001f1e6-\U0001faff"
_ABBREVIATED = "".join(
    rf"(?<!\b{one})" for one in ("v", "vs", "Dr", "Mr", "Ms", "Mrs", "St", "e.g", "i.e", "[B-HJ-Z]")
)
_END = re.compile(_ABBREVIATED + r"[.!?:\u2026]+[\"'\u201d)*_]*(?=\s|$)|(?=\n)")
_TRAIL = re.compile(f"[ {_PICTURES}]*[{_PICTURES}]")
_LEADING = re.compile(rf"[\s{_PICTURES}]*")
_BLOCK = re.compile(r"\s*(?:```|~~~|#{1,6}\s|\||[-*+\u2022]\s|\d+[.)]\s|>|---|\\[\[(])")
_STAGE = re.compile(r"\*[^*\s][^*\n]*[^*\s]\*(?=\s+[A-Z\"])")
_TOKEN = re.compile(r"[^\W_]+(?:['.-][^\W_]+)*")

_MARK = r"\s*([,;:!.\u2026]+|[\u2014\u2013]|-(?=\s))[*_]*(?=\s|$)\s*"
_COURTESIES = (
    "sure( thing)?|certainly|absolutely|definitely|of course|okay|ok|alright|all right|right|well|now|so",
    "[ao]h+|a+w+|oo+[fh]|(ha){1,3}|heh|hm+|hu+h|wow|whoa|yikes|oops|ouch|phew|gosh|hey|hi|hello|greetings",
    "good (morning|afternoon|evening|day)|thank you|thanks|you're welcome|my pleasure|gladly|sounds good",
    "great|perfect|wonderful|awesome|interesting|indeed|understood|noted|got it|no (problem|worries)"
    "|very well",
    "fair enough|actually|honestly|frankly|(so )?(basically|essentially)|look|listen|in short|in brief"
    "|briefly",
    "simply put|put simply|in a nutshell|long story short|to be (honest|clear|fair|frank|sure|precise|blunt)",
    r"first (of all|off)|first things first|first(?=,)|to (begin|start)( with)?|to (sum|put) (it )?\w+",
    "that (being )?said|with that (said|out of the way)|before (i|we) [^,.:]{1,30}",
    "in (response|answer|reply) to [^,.:]{1,40}|to answer [^,.:]{1,40}",
)
_COURTESY = wording(
    rf"[*_(]*(({'|'.join(_COURTESIES)})( (there|again|everyone|all|so much|very much|then|now|here"
    rf"|friend))*{_MARK})+"
)
_WORTH = (
    "important|worth|crucial|essential|helpful|useful|good|fair|safe|key|vital|interesting|best|necessary"
)
_SAY = "not|remember|acknowledg|recogni[sz]|understand|mention|say|know|point|stress|emphasi[sz]|clarify"
_IT_IS = r"(it is|it's|it (may|might) be) (also )?(\w+ly )?"
_THROAT = wording(
    r"((and|but|so|first|also|just),? )?("
    rf"{_IT_IS}({_WORTH}) (to )?({_SAY}|keep|bear|add|stat|consider)(e|ing)?"
    r"( (out|in mind|here|upfront|first))*( that\b|:)",
    r"((please|do|kindly) )*(note|remember|bear in mind|keep in mind|be aware) that\b",
    r"i (should|must|would|want to|need to|have to|can|will) ((first|also|just) )*"
    r"(say|note|mention|point out|add|stress|emphasi[sz]e|clarify|start by saying|tell you) that\b",
    r"(the )?(truth|fact|thing|(short|simple) answer) is(,| that\b))",
)
_MODEL = wording(
    r"(as an?\b[^,.!?\n]*,\s*)?[^,;.!?\n]*?\bi('?m| am)? (not|no|just|only|an?|don't|do not|can't"
    r"|cannot|have no)\b"
    r"[^,.!?\n]*, (but|so|though|yet)\b,?(?=\s)(?!\s(please|i|you|my|don't|take|here|let)\b)"
)
_OPENING = wording(
    "(about|after|as|at|based|because|before|concerning|considering|for|from|given|going|having|if|in"
    "|judging|looking"
    "|on|reading|regarding|since|speaking|though|although|to|when|while|with|without)"
    r"\b[^,;:\u2014\n]{1,90},(?=\s)(?!\s(i|i'\w+|we|we'\w+|let|let's|allow)\b)"
)
_ABOUT_MODEL = wording(
    r"\bi (can't|cannot|don't|do not|am not|won't|haven't|have no|lack)\b|\b(i'm|i am) (not|no|only"
    r"|just|an?)\b",
    r"^as an? (\w+ ){0,3}(ai|model|assistant|chatbot|llm|machine|program)\b",
)
_INFINITIVE = wording(r"to\s")


@frozen
class Clause:
    """A piece of an answer's beginning.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        text: What stands there.
        lead: What it is, where it only leads into another: `courtesy`, `throat`, `stage`, `model`, `opening`;
            else "".
    """

    start: int
    end: int
    text: str
    lead: str = ""


def tokens(text: str) -> list[str]:
    """Return the words and numbers of a text, in small letters; the United States stay apart from `us`."""
    return ["u.s." if word == "US" else word.lower() for word in _TOKEN.findall(text)]


def content(text: str, asked: frozenset[str]) -> list[str]:
    """Return the words of a text that neither its prompt nor the exchange gave: common and rare ones."""
    return [
        word
        for word in _TOKEN.findall(text)
        if not word[0].isdigit()
        and key_of(word) not in asked
        and classes_of(word.lower()) <= {"common"}
    ]  # fmt: skip


def clauses(text: str, asked: frozenset[str]) -> Iterator[Clause]:
    """Yield the clauses of an answer's beginning, in order.

    Args:
        text: The beginning, with straight apostrophes.
        asked: Keys of the prompt's words.
    """
    for start, end in _sentences(text):
        at = start
        while True:
            lead, stop = _lead(text, at, min(end, at + LONGEST), asked)
            if not lead or not text[stop:end].strip():
                break
            yield Clause(at, stop, text[at:stop], lead)
            at = _past(text, stop)
        if end - at > LONGEST:
            return
        yield Clause(at, end, text[at:end])


def _lead(text: str, at: int, end: int, asked: frozenset[str]) -> tuple[str, int]:
    if found := _COURTESY.match(text, at, end):
        return "courtesy", at + len(found.group().rstrip())
    for name, pattern in (("throat", _THROAT), ("stage", _STAGE), ("model", _MODEL)):
        if found := pattern.match(text, at, end):
            return name, found.end()
    found = _OPENING.match(text, at, end)
    return ("opening", found.end()) if found and _empty(found.group(), asked) else ("", at)


def _empty(opening: str, asked: frozenset[str]) -> bool:
    """Whether an opening speaks of the exchange or the model, or says again what was asked."""
    if _ABOUT_MODEL.search(opening):
        return True
    own = len(content(opening, asked))
    found = [classes_of(word) for word in tokens(opening)]
    if own <= 1 and any(one & {"first person", "second person"} for one in found):
        return True
    if own == 0 and any(one & {"question", "reply"} for one in found):
        return True
    again = any(key_of(word) in asked for word in tokens(opening))
    return own <= 1 and again and _INFINITIVE.match(opening) is not None


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    start = _past(text, 0)
    for _ in range(SENTENCES):
        if start >= len(text) or _BLOCK.match(text, start):
            return
        first = _LEADING.match(text, start)
        found = _END.search(text, (first.end() if first else start) + 1)
        end = found.end() if found else len(text)
        if trail := _TRAIL.match(text, end):
            end = trail.end()
        yield start, end
        start = _past(text, end)


def _past(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
