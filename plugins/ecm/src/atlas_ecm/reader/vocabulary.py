"""The vocabulary of the rule for the preamble: English words of the exchange, and words of any topic.

A word belongs to every class that lists it, or its form without a plural `s`, `ed`, `ing` or `ly`. A word of
no class is a *rare* word, which only an answer about the topic is likely to need.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["CLASSES", "classes_of", "key_of", "wording"]

_FIRST = "i i'm i'd i'll i've me my mine myself we we're we'd we'll we've us our ours ourselves let's"

_SECOND = "you you're you'd you'll you've your yours yourself yourselves user"

_COURTESY = """
absolutely admittedly afternoon agreed ah aha alas alright annoying apologies apologise apologize apology
appreciate aw awesome aww bless bravo brilliant candidly certainly cheers confusion congrats congratulations
cool correction course definitely delighted enjoy evening excellent excited excuse fantastic fine flattered
forgive frankly fret fun glad gladly gosh got gotcha grateful great greetings ha haha happy heh hello hey hi
hm hmm honestly honored honoured hooray hope howdy huh indeed interesting kindly kudos love lovely mistake
misunderstanding mix-up morning nice noted noticing oh ok okay oof ooh oops ouch oversight pardon perfect
phew please pleased pleasure pointing problem regret right sorry spooky straight super sure thank thanks
thrilled touche truthfully uh uh-oh um understood welcome well whoa wonderful worry wow yay yikes
"""

_MATTER = """
area ask challenge choice concept concern conundrum debate decision dilemma enquiry field idea inquiry issue
matter mystery one ones phrase problem project prompt puzzle query question request riddle situation story
subject task theme thought topic
"""

_REPLY = """
acknowledge advice analogy answer approach approaches assume attempt basics bear begin beginning below
bottom break breakdown brief briefly candid caveat caveats clarify clear commit compare compares consider
consideration corrected cover delve describe detail disclaimer discuss dive dr draft edited emphasise
emphasize english essentials example examples explain explanation explore first follow following follows
gentler gist guess guide heads-up here imagine important info information keep language lay line list listed
long look map mention message mind note nutshell option outcome outline overview perspective picture plain
point pointer polished quick quickly recognise recognize remember rephrase rephrased replies reply respond
response result revised rewording rewrite rewritten rundown set short simple simply sketch solution spoiler
start step steps straight suggestion sum summaries summarise summarize summary summing tackle take terms
terrain through tip tl tldr together translation trimmed try unpack updated verdict version walk weigh worth
"""

_SELF = """
access accountant advice adviser advisor ai artificial assistant attorney balanced barrister belief bias
biased body bot browse chat chatbot circumstances clinician computer consciousness consult conviction
counsel counselor cutoff date dentist diagnose diagnosis dietitian doctor economist educational emotion
endorse ethicist examine experience expert faith favorite favourite feeling general impartial informational
intelligence judgement judgment knowledge language lawyer licensed llm machine model neutral neutrality
nurse nutritionist objective opinion own paediatrician pediatrician personal personally pharmacist physician
predict preference prescriber presume professional program psychiatrist psychologist purposes qualified
real-time refrain replace replacement robot side sides software solicitor specialist stance substitute taste
theologian therapist trained training unbiased update vet veterinarian view viewpoint
"""

_PRAISE = """
achievement admirable age-old alone amazing ambitious ancient annoying awful awkward baffling beautiful
beloved bewildering big blast bold brave breathtaking brilliant broad captivating celebrated challenging
charming classic clever common compelling complex complicated confused confusing contentious contested
controversial cornerstone courageous crucial curiosity curious daunting debated deep deeply delicate delight
delightful demoralising demoralizing difficult disappointing divisive doozy dread dreaded dream easier easy
emotional endlessly enduring engaging essential eternal evergreen evocative excellent exciting exhausting
extraordinary fair famous famously fantastic fascinating favorite favourite feel feels fine fraught
frightening frustrating frustration fun fundamental game gem genuinely good great gripping hard headache
heartbreaking heated heavy hefty highly hole horrible hot hotly huge hugely iconic important impressive
incredible infamous influential infuriating insightful inspiring interesting intimidate intimidating
intricate intriguing joy juicy layered legendary loaded lovely maddening magical magnificent marvel
meaningful meaty milestone million-dollar minefield miserable misunderstood moving multifaceted natural
nightmare notable notorious notoriously nuanced nuisance overlooked overwhelming painful parlor parlour
perennial perfect perfectly perplexing personal polarising polarizing popular powerful precious profound
proverbial provocative puzzling quandary quite rabbit rather really reasonable relatable remarkable renowned
rewarding rich scary sensible sensitive sharp significant simple smart spectacle spectacular staple stickler
straightforward stressful struggle stunning subtle superb surprising surprisingly target tempting terrible
terrific thorny thought-provoking thoughtful timeless timely topical touching touchy tough toughie treasured
treat tricky truly twisty uncomfortable underrated understandable understandably universal upsetting valid
vast versatile vexing vital weighty widely wise wonder wonderful worrying worthwhile
"""

_DEBATE = """
age-old ages angle anybody anyone argue argument attention book books buzzword camp centuries century
citizens claim cons consensus controversies controversy conversation debate decade definitive depend differ
different disagree disagreement discuss discussion dispute divide divides economists endless every everybody
everyone everywhere evidence experts explored factor fit fits fought generation generations grapple
headlines heard historians history hotly ink internet lately libraries literature long media merits
millennia millennium minds misconceptions myths nobody online open opinion passionate passions past
perspective philosopher philosophy poets ponder popular pros puzzle recently religion research researchers
resolve resolved rivers rumors rumours scholars scientists script settle settled sides single size social
studied subject suits tempers theologians thinkers thoughtful universal unresolved varied varies varying
viewpoints volumes wars wonder wrestle wrestled writers written years
"""

_COMMON = """
add afraid age aim air aloud anywhere apply art basic believe body boil bottom bring build business buy call
care careful carry catch central change child children choose chosen city close company country couple
create cut day deal decide deserve die direct double dozen draw early earn easy eat edit end everywhere
expect explain eye face fall false family fast few final find fix folks food form free friend funny general
go government grab group grow guy half hand happen hardly head health hear heart hold home honest hour house
hundred include indirect inside job key kid kids know land law lead lean learn learner learners leave life
listen live lives lose loud love low lower main major man meet men middle million minor minute modern moment
money month morning move name near night nowhere number offer old open order outside parent pay people pick
piece place play plenty point power private public quick raise ran reach read reader real recent remain run
sad safe same save school see send serious serve set share side simple sit slow somewhere speak spend stand
start state stay stop stories story student sum system talk thousand tie today tomorrow top true turn type
understand use visit wait walk warm watch water week whole wide win woman women word work world write
writing year young
"""

_FUNCTION = """
a able about above according across actually after again against ago ahead all almost along already also
although always am among an and another any anyone anything anyway are aren't around as ask at away back bad
based basically be became because become been before behind being below besides best better between beyond
bit both but by came can can't cannot case cases certain certainly clearly come comes coming concerning
could couldn't course day days did didn't do does doesn't doing don't done down due during each either else
enough especially even ever every everyone everything exactly example fact far felt few fewer finding first
for former found from front full further gave generally get gets getting give given gives giving go goes
going gone good great had hadn't has hasn't have haven't having he he's help helped helping helps hence her
here here's hers high him his how how's however i'd if in including indeed instance instead into is isn't it
it's its itself just keep keeps kept kind kinds knew know known knows large last late later least left less
let lets like likely little long look looking looks lot lots made mainly make makes making many may maybe
mean means meant might more most mostly much must mustn't naturally near nearly need needs neither never new
next no nor not nothing now obviously of off often old on once one only onto or other others otherwise ought
out over part particular particularly parts past people per perhaps person place plainly plus point possible
possibly probably put puts quite rather really regarding right said same saw say saying says see seeing seem
seemed seems seen several shall she should shouldn't show shows similar simply since small so some someone
something sometimes somewhat soon sort sorts speaking still such surely take taken takes taking tell tells
than that that's the their theirs them themselves then there there's therefore these they they're thing
things think thinking this those though thought thus time times to today together told too took toward
towards tried tries truly try trying turn turned turns two under unless until up upfront upon use used uses
using usually very via want wanted wanting wants was wasn't way ways went were weren't what what's whatever
when where where's whether which while who who's whole whom whose why will with within without won't work
works world worse worst would wouldn't wrong year years yet
"""

CLASSES: dict[str, frozenset[str]] = {
    "first person": frozenset(_FIRST.split()),
    "second person": frozenset(_SECOND.split()),
    "courtesy": frozenset(_COURTESY.split()),
    "question": frozenset(_MATTER.split()),
    "reply": frozenset(_REPLY.split()),
    "model": frozenset(_SELF.split()),
    "esteem": frozenset(_PRAISE.split()),
    "debate": frozenset(_DEBATE.split()),
    "common": frozenset(_COMMON.split()),
    "function": frozenset(_FUNCTION.split()),
}
"""The classes by name: who speaks and to whom; words of courtesy; names of a question; of a reply and its
parts; of what a model or an expert is; words that judge or feel; words about who has argued and for how long;
words of any topic."""


@lru_cache(maxsize=65536)
def classes_of(word: str) -> frozenset[str]:
    """Return the names of the classes of a word in small letters; none of a rare word."""
    forms = _forms(word)
    return frozenset(name for name, words in CLASSES.items() if any(form in words for form in forms))


def key_of(word: str) -> str:
    """Return what forms of one word share: its first five small letters, `disco` of `discovered`."""
    return word.lower().removesuffix("'s")[:5]


def wording(*alternatives: str) -> re.Pattern[str]:
    """Compile alternatives.

    They are regular expressions in which a space stands for white space, and a bracket only groups.
    """
    joined = "|".join(alternatives).replace(" ", r"\s+")
    return re.compile(re.sub(r"(?<!\\)\((?!\?)", "(?:", joined), re.IGNORECASE)


def _forms(word: str) -> tuple[str, ...]:
    stem = word.removesuffix("'s")
    forms = [word, stem]
    for suffix, tails in (("s", ("",)), ("ed", ("", "e")), ("ing", ("", "e")), ("ly", ("",))):
        if stem.endswith(suffix) and len(stem) > len(suffix) + 2:
            forms.extend(stem[: -len(suffix)] + tail for tail in tails)
    return tuple(forms)
