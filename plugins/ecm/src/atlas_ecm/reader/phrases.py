"""The phrases by which a clause tells of itself that it is preamble, or that it engages the task."""

from __future__ import annotations

import re

from atlas_ecm.reader.clauses import content, tokens
from atlas_ecm.reader.vocabulary import classes_of, key_of, wording

__all__ = ["engages", "phrase_of"]

_TALK = (
    "add|address|analy[sz]e|answer|approach|assist|assume|attempt|begin|break|clarify|commit|compare"
    "|consider|cover"
    "|delve|describe|dig|discuss|dive|do|examine|explain|explore|focus|give|go|help|highlight|jump|keep"
    "|lay|lean|list"
    "|look|offer|outline|point|present|proceed|provide|put|review|run|set|share|show|sketch|start|stick|sum"
    "|summari[sz]e|tackle|take|talk|tell|think|touch|try|unpack|walk|weigh|work"
)
_WILL = (
    "(i|we)('ll| will| can| could)|i('d| would) like to|i want to|i('m| am) going to|let('s| me| us)"
    "|allow me to"
    "|i (aim|hope|try|plan|intend) to|i shall|i've (tried|done|kept|put|made|written|drafted)"
    r"|i('m| am) (more than )?(happy|glad|here|delighted|pleased) to|i('d| would) be (\w+ ){0,3}to|happy to"
)
_THINGS = (
    "answer|breakdown|draft|email|example|explanation|guide|ideas|letter|list|look|message|options"
    "|outline|overview"
    "|points|poem|reasons|recipe|response|rewrite|rundown|steps|story|suggestions|summary|table|take"
    "|things|thoughts"
    "|tips|translation|version|ways|how|what|why"
)
_TOPICS = (
    "areas?|challenges?|complex|complicated|concepts?|contested|controversial|debates?|debated"
    "|dilemmas?|disputed"
    "|divisive|issues?|multifaceted|mystery|mysteries|nuanced|puzzles?|questions?|subjects?|themes?|topics?"
)
_DO = "have|hold|form|take|give|offer|provide|examine|diagnose|see|know|decide|predict|browse|access|verify"
_PATTERNS = {
    "offer": wording(rf"({_WILL}) (\w+ ){{0,2}}?({_TALK})\b"),
    "announcement": wording(
        r"^\W*(\w+,? ){0,3}?(here('s| is| are)|below (is|are|you)|(the )?following (is|are)|this is)\b[^.!?]*"
        rf"\b({_THINGS})\b",
        r"\b(listed|given|set out|outlined|described|shown|summari[sz]ed|found|explained|covered"
        r"|provided) (below|here)\b",
        r"\bas follows\b|\bthe following\b[^.]{0,30}:$|\bhere (goes|you go|we go)\b",
    ),
    "restating": wording(
        r"^\W*(\w+,? )?(you('ve| have)? (asked|want to know|wanted to know|wondered)|(it )?(sounds"
        r"|seems|looks) like you"
        "|you('re| are) (asking|wondering|looking (for|to)|interested|trying to)"
        "|(i|we)('re| are)? (understand|see|gather|hear|asked) ((that|why|to|how) )?"
        "(you|your|parents|people|find|this|determine|compute|prove)"
        r"|your (question|request|prompt)|the (question|task|problem|user|prompt) (asks|here is"
        r"|is asking|wants|at hand))\b"
    ),
    "sympathy": wording(
        r"^\W*(oh,? )?(i'm |i am )?((so|very|really|truly) )*sorry (to hear|for your|it|that|about|you)\b",
        r"^\W*that (must|sounds)\b",
    ),
    "description": wording(
        rf"(\b(is|are|remains?|can be|has been)|'s) ([\w-]+ ){{0,6}}?({_TOPICS})\b",
        r"\bplays? an? (\w+ )?(central|crucial|essential|important|key|significant|vital) (\w+ )?role\b"
        r"|\bin today's\b",
        r"\b(long|rich|storied|complicated|fascinating) history\b",
        r"\b(opinions|views|answers|experts) (vary|differ|diverge|disagree)\b",
    ),
    "disclaimer": wording(
        r"\b(legal|medical|financial|tax|investment|professional|personali[sz]ed) (advice|counsel"
        r"|guidance|opinion)\b",
        r"\b(replaces?|replacement for|substitute for)\b|\b(grain|pinch) of salt\b|\bmileage may vary\b",
        r"\bmay be (out of date|outdated|stale)\b|\bmy (knowledge|training)\b",
        r"\bi('m| am) (\w+ )?(not (an?|your)|no|(just|only) an?"
        r"|an? (ai|language|artificial|large|chatbot|assistant|software))\b",
        rf"\bi (do not|don't|cannot|can't) (\w+ )?({_DO}|promise|guarantee)\b",
    ),
}
_FIRST_PERSON = wording(r"\bi\b")

_ANSWERS = wording(
    r"\W*(yes|no|nope|yep|yeah|nah|not (yet|really|quite|exactly|necessarily)|true|false|correct|incorrect"
    r"|almost certainly|probably|it depends|neither|both|maybe)\b",
    r"\W*i (can find no|(can't|couldn't|could not) find|could find no|know of no|have no record"
    r"|am not aware of"
    r"|don't (know of|recogni[sz]e))\b|\W*i'm not (aware of|familiar with)\b",
    r"[^.!?]{0,60}\b(yes|no|probably|mostly|partly|sometimes|rarely|usually)\W*$|\W*let [b-z]\b",
    r"[^.!?]{0,40}\b(is|'s) an? (\w+ )?(myth|misconception)\b",
)
_ADVISES = wording(
    r"\W*(you|one) (can|may|should|must|could|cannot|can't|need to|have to)\b|\W*(it|this|that) means\b",
    r"\W*(i'd|i would) (\w+ly )?(go (with|for)|pick|choose|recommend|suggest|use|avoid|buy|opt|spread"
    r"|put|side)\b",
)
_REFUSES = wording(
    r"\W*((i'm|i am|we're)?\s*((really|very|so) )?(sorry|afraid|unable"
    r"|apologi[sz]e)\b[^.!?]{0,12}?)?(,\s*)?(but )?"
    r"(i|we)?\s*('m |am )?(can't|cannot|can not|won't|will not|unable to|not able to|must decline"
    r"|decline)\s*(to )?"
    "(help|assist|do that|write|create|support|comply|fulfil|share|produce|generate|walk|tell you how"
    "|explain how|teach"
    "|discuss|(provide|give|offer)"
    "(?! (you )?(personal|medical|legal|financial|tax|professional|an? (diag|definit))))"
)
_SALUTES = wording(r"\W*(dear\b|to whom\b|(subject|re|user|human|assistant|ai|[qa])\s*:)")
_ASKS = wording(
    r"\W*((and|but|so) )?(could|can|would|will|do|did|are|is|have|what|which|how|when|where|who|whose"
    r"|why|may|should"
    r"|does|has|was|were)\b"
)
_POLAR = wording(
    r"([^?]*[.,] )?(is|are|was|were|do|does|did|can|could|will|would|should|has|have|had|may|must)\b[^.?!]*\?"
)
_OFFERS_CHOICE = wording(r"\bor\b|^which\b|^who\b")
_QUOTES = re.compile(r"[\"\u201c\u2018\u00ab`](?![^\"\u201d]*[\"\u201d]\s*[\u2014\u2013-])")


def phrase_of(text: str, asked: frozenset[str], *, line_ends: bool) -> str:
    """Return the name of the phrase that says of a clause that it is preamble, else "".

    Args:
        text: The clause.
        asked: Keys of the prompt's words.
        line_ends: Whether the line ends after it.
    """
    for name, pattern in _PATTERNS.items():
        if pattern.search(text):
            return name
    if line_ends and text.rstrip(" *_").endswith(":"):
        rare = [word for word in content(text, asked) if not classes_of(word.lower())]
        if len(rare) <= (3 if _FIRST_PERSON.search(text) else 1):
            return "announcement"
    return ""


def engages(text: str, prompt: str, phrase: str) -> bool:
    """Whether a clause engages the task by its form, whatever else it says.

    It does as yes or no, as advice or a definition, as one of the prompt's alternatives, as a refusal, a
    question back, a letter's salutation, a quotation, or a yes-or-no question's own words as a statement. A
    clause that only describes the question (`phrase`) does not.
    """
    if phrase == "description":
        return False
    if _ANSWERS.match(text) and not text.rstrip(" *_").endswith("?"):
        return True
    if _REFUSES.match(text) or _SALUTES.match(text) or _QUOTES.match(text.lstrip(" *_")):
        return True
    if _ADVISES.match(text) and not phrase and not text.rstrip(" *_").endswith(":"):
        return True
    words = [word for word in tokens(text) if word not in ("a", "an", "the")]
    if text.rstrip(' *_)"').endswith("?") and _ASKS.match(text):
        again = {key_of(word) for word in tokens(prompt)}
        personal = [classes_of(word) & {"first person", "second person"} for word in words]
        return any("second person" in one for one in personal) or not (
            any(personal) or all(key_of(word) in again for word in content(text, frozenset()))
        )
    if 0 < len(words) <= 3 and _OFFERS_CHOICE.search(prompt):
        return {key_of(word) for word in words} <= {key_of(word) for word in tokens(prompt)}
    if _POLAR.match(prompt) and not text.rstrip(" *_").endswith(("?", "!", ":")):
        again = {key_of(word) for word in tokens(prompt) if "function" not in classes_of(word)}
        said = [word for word in words if not classes_of(word) or key_of(word) in again]
        spoken = any(classes_of(word) & {"first person", "second person"} for word in words)
        return len(said) >= 2 and not spoken and {key_of(word) for word in said} <= again
    return False
