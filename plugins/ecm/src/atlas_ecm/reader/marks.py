"""What the rule for the preamble counts in a clause: its marks, by name."""

from __future__ import annotations

import re

from attrs import frozen

from atlas_ecm.reader.clauses import content, tokens
from atlas_ecm.reader.vocabulary import classes_of, key_of, wording

__all__ = ["MARKS", "Asked", "marks_of"]

MARKS: dict[str, str] = {
    "any": "every clause",
    "first person": "words such as `I`, `my`, `we`, up to two",
    "second person": "words such as `you`, `your`, up to two",
    "courtesy": "words of courtesy, up to three; here and below by the vocabulary's classes",
    "question": "words for a question, up to three",
    "reply": "words for a reply and its parts, up to three",
    "model": "words for what a model or an expert is and has, up to three",
    "esteem": "words that judge or feel, up to three",
    "debate": "words about who has argued and for how long, up to three",
    "rare": "words of no class that the prompt does not have, up to eight",
    "common": "words of any topic that the prompt does not have, up to six",
    "figures": "numbers, quoted words and code that the prompt does not have, up to three",
    "dense": "a third of the words or more are rare",
    "empty": "none is rare, and there are no figures",
    "restates": "`you asked`, `I understand`, `your question` and the like",
    "intends": "`I will`, `I have`, `let me`, `in this answer` and the like",
    "points": "begins `here is`, `the following`, `consider`, `you can use` and the like",
    "long debate": "`for centuries`, `has been debated`, `many people ask`, `no single` and the like",
    "this": "`this`, `that`, `these`, `here`",
    "exclaims": "ends in an exclamation mark",
    "announces": "ends in a colon at the line's end",
    "label": "six words or fewer, without a common verb, that end in a colon",
    "picture": "has an emoji",
    "impersonal": "none of first person, second person, courtesy and this",
}
"""Each mark with what it is."""

_COUNTED = dict(zip(("courtesy", "question", "reply", "model", "esteem", "debate"), (3,) * 6, strict=True))
_COUNTED.update({"first person": 2, "second person": 2})
_SPEAKS = (
    "'ll|'d|'m|'ve| (will|would|can|could|am|want to|hope|tried|kept|took|have|aim|shall|should|may|might)"
)
_WORDINGS = {
    "restates": wording(
        r"\byou('ve| have)? (ask|asked|want|wanted|wish|wonder|wondered|mentioned|said|need|raise|raised)\b",
        r"\byou('re| are) (asking|wondering|looking|interested|worried|curious|trying|after|facing"
        r"|having|dealing)\b",
        r"\b(i|we)('re| are|'m| am)? (understand|see|gather|hear|take it|asked)\b",
        r"\byour (\w+ )?(question|request|prompt|concern|situation|message)\b",
        r"\b(sounds? like|seems?( like| that)?) you\b",
    ),
    "intends": wording(
        rf"\b(i|we)({_SPEAKS})\b|\blet('s| me| us)\b|\ballow me\b|\bhappy to\b|\bglad\b"
        rf"|\bcoming (right )?up\b",
        r"\bby the end\b|\bin this (response|answer|message|reply|guide)\b",
    ),
    "points": wording(
        r"^\W*((so|and|now|then|still|that said|well)\b,?\s*)?(here('s| is| are)|below|the following"
        r"|following (is|are)"
        r"|picture|imagine|these are|(see|consider|take|try)(?=[^.!?]*(\b(this|these|below)\b|:))"
        r"|you (can|could|might|may) (use|try|like|do|write|say|consider))\b"
    ),
    "long debate": wording(
        r"\b(for|over|across|through) (\w+ ){0,2}(centur\w+|decades|millenni\w+|generations|ages|years)\b",
        r"\bha(s|ve) (long )?(been )?(\w+ly )?"
        "(debat|argu|wrestl|grappl|ponder|puzzl|ask|discuss|disput|contest|studi|struggl|fought|written)",
        r"\b(many|most|lots of|plenty of|few|countless|every|everyone|everybody|no two|people)\b[^.!?]{0,40}"
        r"\b(find|wonder|ask|dream|struggle|agree|disagree|feel|ha(s|ve) heard|divide|dread|learners"
        r"|argue)\b",
        r"\bno (single|one|right|easy|simple|universal|definitive|clear|correct|script|perfect)\b",
        r"\bone of (the|those|nature|history|life)\b|\bdepends? on\b|\bdivided?s?\b",
    ),
    "this": wording(r"\b(this|that|that's|these|here|here's)\b"),
    "picture": wording("[\u2600-\u27bf\U0001f1e6-\U0001faff]"),
}
_QUOTED = re.compile(r"`[^`\n]+`|[\"\u201c][^\"\u201d\n]+[\"\u201d]")
_VERB = wording(r"\b(is|are|was|were|has|have|had|does|do|can|will)\b|'(s|re)\b")


@frozen
class Asked:
    """What a prompt says: its text, its words and numbers, and the keys of those of content."""

    text: str
    words: frozenset[str]
    keys: frozenset[str]

    @classmethod
    def of(cls, prompt: str) -> Asked:
        """Return what `prompt`, with straight apostrophes, says."""
        words = frozenset(tokens(prompt))
        return cls(
            prompt, words, frozenset(key_of(word) for word in words if "function" not in classes_of(word))
        )


def marks_of(text: str, asked: Asked, *, opens: bool, line_ends: bool) -> dict[str, int]:
    """Return how often a clause has each of `MARKS`.

    Args:
        text: The clause.
        asked: Its prompt.
        opens: Whether nothing but courtesy stands before it.
        line_ends: Whether the line ends after it.
    """
    words = tokens(text)
    classes = [classes_of(word) for word in words]
    own = content(text, asked.keys)
    rare = sum(1 for word in own if not classes_of(word.lower()))
    numbers = sum(1 for word in words if word[0].isdigit() and word not in asked.words)
    quoted = sum(1 for part in _QUOTED.findall(text) if not asked.words.issuperset(tokens(part)))
    figures = min(3, numbers + quoted)
    ending = text.strip().rstrip("*_\"\u201d')")
    colon = ending.endswith(":")
    label = colon and len(words) <= 6 and not _VERB.search(text)
    counted = {name: min(most, sum(name in one for one in classes)) for name, most in _COUNTED.items()}
    worded = {name: int(bool(pattern.search(text))) for name, pattern in _WORDINGS.items()}
    personal = counted["first person"] + counted["second person"] + counted["courtesy"] + worded["this"]
    return {
        "any": 1,
        **counted,
        "rare": min(8, rare),
        "common": min(6, len(own) - rare),
        "figures": figures,
        "dense": int(3 * rare >= max(1, len(words))),
        "empty": int(not rare and not figures),
        **worded,
        "exclaims": int(ending.endswith("!")),
        "announces": int(colon and line_ends),
        "label": int(label and (opens or not text.lstrip().startswith("**"))),
        "impersonal": int(not personal),
    }
