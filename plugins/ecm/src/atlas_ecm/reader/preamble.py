"""Preamble padding P: the words of an answer before it engages the task.

The rule, edition 2. From the beginning of the first answer, take what matches one of these, again and again;
stop at what matches none. The preamble is all that was taken, and P its number of words.

- *courtesy*: an interjection, greeting or word of assent up to its mark (`Sure,` `Great!` `Hello there.`);
- *thanks*: a sentence of thanks for the question, or an apology for something said before;
- *praise*: a sentence that praises the question;
- *character*: a sentence that says of the question only that it is complex, contested or important;
- *self*: a clause about being a model, no expert, or without opinions, up to its comma, with a `but`
  that follows;
- *restating*: a sentence that says what was asked;
- *offer*: a sentence that announces help or what the answer will do;
- *announcement*: a sentence that ends in a colon and begins `Here is`, `Below are`, or the like;
- *throat*: `It is important to note that`, `First of all,` and the like, without what follows.

A refusal engages the task, and so does `Yes` or `No`. A sentence ends at `.`, `!`, `?` or `:` before
white space, or at the line's end. The rule knows English. It is a rule about wording: what a phrase is
doing there it cannot know, which is why the span it took is shown.
"""

from __future__ import annotations

import re

from attrs import frozen

__all__ = ["EDITION", "REACH", "Preamble", "preamble_of"]

EDITION = 2

REACH = 4096
"""Characters of an answer that are looked at."""

_QUALITY = (
    r"(?:(?:really|very|truly|quite|such|an?|deeply|genuinely|highly|and|or|but|also|perennial"
    r"|long-standing|one of)"
    r"|great|good|excellent|interesting|fascinating|thoughtful|important|wonderful|fantastic|insightful|intriguing"
    r"|complex|complicated|nuanced|contested|debated|controversial|difficult|hard|tricky|sensitive|deep|profound"
    r"|challenging|subtle|multifaceted|thorny|loaded|timely|common|classic|fair|lovely|superb|rich|big|delicate)"
)
_QUESTION = (
    r"(?:questions?|topics?|points?|issues?|subjects?|matters?|areas?|requests?"
    r"|prompts?|one|ask|debates?|problems?)"
)
_HELD = r"(?:,?\s+" + _QUALITY + r",?)*"
_REST = r"[^\n]*?(?:[.!?:…]+[\"'”)*_]*(?=\s|$)|(?=\n)|$)"
_MARK = r"\s*(?:[,;:!.…]+|[—\u2013]|-(?=\s))[*_]*(?=\s|$)"
_WILL = (
    r"(?:do my best|try|explain|go through|break|walk|give|provide|outline|look|start|begin|answer|take|keep"
    r"|address|lay|describe|summari[sz]e|cover|present|share|offer|help|unpack|dive|explore|consider|think|work"
    r"|go over|list|show|compare|clarify|examine|see|tackle|discuss|analy[sz]e|be happy|be glad"
    r"|approach|set out|first)"
)

_RULES: dict[str, str] = {
    "self": (
        r"(?:as an?\s+(?:large\s+|artificial\s+)?(?:ai|language|artificial|llm)\b[^,.\n]*,"
        r"(?:\s+i\s+(?:can'?t|cannot|am\s+not\s+able\s+to)\b[^.,!?\n]*,\s+but\b,?)?"
        r"|(?:while|although|though)\s+i'?(?:m|\s+am)\s+not\s+(?:an?|your)\b[^,.\n]*,"
        r"|(?:while|although|though)\s+(?:i'?m|i\s+am|i)\s+(?:just\s+|only\s+)?(?:an?\s+(?:ai|large|language)|do\s+not|don'?t)"
        r"\b[^,.\n]*,"
        r"|i'?(?:m|\s+am)\s+(?:just\s+|only\s+)?an?\s+(?:ai|large\s+language|language)\b[^.,!?\n]*(?:,\s+(?:but|so|and)\b,?|[.!]|,)"
        r"|i'?(?:m|\s+am)\s+not\s+(?:a|an|your)\b[^.,!?\n]*,\s+(?:but|so)\b,?"
        r"|i\s+(?:do\s+not|don'?t|cannot|can'?t)\s+(?:have|hold|form)\s+(?:any\s+)?(?:personal\s+)?"
        r"(?:opinions?|beliefs?|feelings?|views?|experiences?|preferences?)\b[^.,!?\n]*(?:,\s+(?:but|so)\b,?|[.!]))"
    ),
    "thanks": (
        r"(?:thank\s+you|thanks)(?:\s+(?:so|very)\s+much|\s+a\s+lot)?\s+for\b"
        + _REST
        + r"|(?:i\s+)?apologi[sz]e(?:s)?\s+for\b"
        + _REST
        + r"|(?:i'?m\s+)?sorry\s+(?:for|about)\b"
        + _REST
        + r"|(?:my\s+)?apologies\b"
        + _REST
        + r"|i\s+(?:really\s+)?appreciate\s+(?:you|your|the\s+question)\b"
        + _REST
    ),
    "praise": (
        r"(?:(?:that'?s|that\s+is|this\s+is|what|you'?ve\s+(?:asked|raised)|you\s+(?:ask|asked|raise|raised))"
        + _HELD
        + r"\s+"
        + _QUESTION
        + r"\b|"
        + _QUALITY
        + _HELD
        + r"\s+(?:choice\s+of\s+)?"
        + _QUESTION
        + r"(?=[^\w\s]|\s+(?:to|about|and|you|there)\b))"
        + _REST
        + r"|the\s+(?:age-old|famous|eternal|"
        + _QUALITY
        + r")\s+[^.,;:!?\n]*"
        + _QUESTION
        + r"!"
    ),
    "character": (
        r"(?:this|that|it|the\s+(?:question|topic|issue|matter|debate)(?:\s+(?:of|about|whether)[^.!?\n]*?)?)"
        r"(?:\s+(?:is|can\s+be|remains)|'s)\s+(?:indeed\s+|certainly\s+|still\s+)?"
        + _QUALITY
        + _HELD
        + r"(?:\s+"
        + _QUESTION
        + r")?(?:\s+(?:that|with|which|and|on\s+which|where)\b[^.!?:\n]*)?[.!:…]+(?=\s|$)"
    ),
    "restating": (
        r"(?:you(?:'ve|\s+have)?\s+(?:ask|asked|want\s+to\s+know|wanted\s+to\s+know|mentioned|wondered)\b"
        r"|i\s+(?:understand|see|gather)\s+(?:that\s+)?(?:you|your)\b"
        r"|you(?:'re|\s+are)\s+(?:asking|wondering|looking\s+for)\b"
        r"|your\s+(?:question|request|prompt)\s+(?:is|was|asks|about|concerns|touches|raises)\b"
        r"|so,?\s+you\s+(?:want|need|would\s+like|'d\s+like)\b|the\s+user\s+(?:asks|wants|is\s+asking)\b)"
        + _REST
    ),
    "offer": (
        r"(?:i(?:'d|\s+would)\s+be\s+(?:more\s+than\s+)?(?:happy|glad|delighted|pleased)\b"
        r"|i(?:'m|\s+am)\s+(?:happy|glad|here|delighted|pleased)\s+to\b"
        r"|i\s+can\s+(?:certainly\s+|definitely\s+|absolutely\s+|surely\s+)?(?:help|assist|explain|do\s+that|walk)\b"
        r"|happy\s+to\s+(?:help|assist|explain|do)\b|glad\s+you\s+asked\b"
        r"|(?:i'?ll|i\s+will|i'?m\s+going\s+to|we'?ll)\s+" + _WILL + r"\b"
        r"|let\s+me\s+" + _WILL + r"\b|let'?s\s+(?:" + _WILL + r"|get|jump|delve)\b|allow\s+me\s+to\b"
        r"|in\s+this\s+(?:response|answer)\b|i\s+(?:hope|trust)\s+(?:(?:this|that)\s+helps|you(?:'re|\s+are)|all\s+is\s+well)\b)"
        + _REST
    ),
    "announcement": (
        r"(?:here(?:'s|\s+is|\s+are)|below\s+(?:is|are|you)|the\s+following\s+(?:is|are))\b[^.!?\n]*?:[*_]*(?=\s|$)"
        r"|here(?:'s|\s+is)\s+(?:an?|my|the)\s+(?:\w+\s+){0,3}?"
        r"(?:breakdown|overview|summary|explanation|answer|look|list|take|response|draft|rundown|outline|version)\b[^.!?\n]*[.!](?=\s|$)"
        r"|here\s+you\s+go\b" + _REST
    ),
    "throat": (
        r"(?:it(?:'s|\s+is)\s+(?:also\s+)?(?:important|worth|crucial|essential|helpful|useful|good)\s+"
        r"(?:to\s+)?(?:not(?:e|ing)|remember(?:ing)?|acknowledg(?:e|ing)|recogni[sz](?:e|ing)|understand(?:ing)?|mention(?:ing)?|say(?:ing)?)"
        r"(?:\s+that\b|\s+here\s+that\b|:)"
        r"|(?:please\s+)?note\s+that\b"
        r"|(?:first\s+of\s+all|to\s+begin(?:\s+with)?|to\s+start(?:\s+with)?|before\s+(?:i|we)\s+(?:begin|start|answer|dive\s+in)"
        r"|to\s+answer\s+(?:your|the)\s+question|in\s+(?:response|answer)\s+to\s+your\s+(?:question|request)"
        r"|(?:so\s+)?(?:basically|essentially)|to\s+be\s+honest|honestly|frankly|simply\s+put|in\s+short)\s*[,:])"
    ),
    "courtesy": (
        r"(?:sure(?:\s+thing)?|certainly|absolutely|definitely|of\s+course|okay|ok|alright|all\s+right|well|ah|oh|hmm+|so"
        r"|hi|hello|hey|greetings|good\s+(?:morning|afternoon|evening)|thank\s+you|thanks|great|perfect|wonderful|awesome"
        r"|understood|got\s+it|no\s+problem|no\s+worries|my\s+pleasure|sounds\s+good|gladly|interesting|right|indeed"
        r"|you'?re\s+welcome|welcome|noted|very\s+well)"
        r"(?:\s+(?:there|again|everyone|all|so\s+much|very\s+much|then|now))*" + _MARK
    ),
}
_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _RULES.items()}
_GAP = re.compile("[\\s*_>\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]*")
_WORD = re.compile(r"\w")


@frozen
class Preamble:
    """What the rule took.

    Attributes:
        span: The text, as it stands, without white space around it; empty where nothing was taken.
        words: P.
        rules: Which parts of the rule took it, in order.
    """

    span: str
    words: int
    rules: tuple[str, ...]


def preamble_of(answer: str) -> Preamble:
    """Return the preamble of an answer; of its first `REACH` characters, where it goes on longer."""
    text = answer[:REACH].replace("\u2019", "'")
    at, end, rules = _past_gap(text, 0), 0, list[str]()
    while at < len(text):
        taken = next(
            (
                (name, found.end())
                for name, pattern in _PATTERNS.items()
                if (found := pattern.match(text, at))
            ),
            None,
        )
        if taken is None or taken[1] <= at:
            break
        rules.append(taken[0])
        end = taken[1]
        at = _past_gap(text, end)
    span = answer[:end].strip()
    return Preamble(span, sum(1 for word in span.split() if _WORD.search(word)), tuple(rules))


def _past_gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at
