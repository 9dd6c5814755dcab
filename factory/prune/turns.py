"""What a step says of the chain it is in: that a line is given up, that another begins, that something is checked.

Rules over phrases, each with a kind. They say nothing of the extent of what is given up: that is a matter of
structure, and stands in `attempts`. Case does not matter. A rule that opens a line looks at the start of a step,
behind bullets and the small words that people begin with; the others look anywhere in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

LOOKED_AT = 600
"""Characters of a step that are read: a turn is said in its first sentences."""


class Turn(StrEnum):
    """What a step can say."""

    REJECT = "reject"
    """The line before it, or this step itself, does not hold."""
    SWITCH = "switch"
    """Another line begins."""
    FLOAT = "float"
    """An idea is floated that may or may not become a line."""
    REVISE = "revise"
    """Something just said is doubted."""
    RESTART = "restart"
    """Everything is begun again."""
    RETURN = "return"
    """The chain goes back to something that it names."""
    CHECK = "check"
    """Something reached is verified."""
    CONFIRM = "confirm"
    """A check holds."""
    GUESS = "guess"
    """An answer is taken without a reason."""


_SMALL = (
    r"(?:hmm+|hm|okay|ok|well|so|but|and|now|oh|ah|no|yes|right|actually|then|also|still|wait|hold on"
    r"|anyway|given that)"
)
_LEAD = rf"^[\s>*•#\-]{{0,12}}(?:{_SMALL}\b[,.!…:—]{{0,3}}\s+){{0,4}}"
_IT = (
    r"(?:that|this|it|which|these|those|they|here|answer|result|assumption|approach|method|equation|case|attempt|value)"
)
_BE = (
    r"(?:'s| is| was| are| were| seems?(?: to be)?| looks| would be| must be| can't be| cannot be| isn't"
    r"| wasn't| aren't)"
)
_NEG = (
    r"(?:does(?:n't| not)|do(?:n't| not)|did(?:n't| not)|wo(?:n't|uld not|uldn't)|will not|can(?:'t|not"
    r"| not)|isn't|is not)"
)
_OTHER = r"(?:another|a different|an alternative|an alternate|some other|a new|a better|a simpler|the other|one more)"
_WAY = (
    r"(?:approach|way|method|idea|option|strategy|angle|attempt|combination|possibility|route|tactic|path"
    r"|perspective|try)"
)
_LET = (
    r"(?:let's|let me|let us|lets|i'll|i will|i should|i can|i could|we can|we could|i need to|i might"
    r"|i want to|maybe i (?:can|should|could))"
)

_RULES: Mapping[Turn, str] = {
    Turn.REJECT: rf"""
        \b{_IT}{_BE}(?:\s\w+){{0,3}}?\s(?:not|wrong|incorrect|impossible|invalid|a contradiction|contradictory|absurd
            |too \w+|flawed|nonsense|unhelpful|inconsistent|problematic|getting (?:too|very|quite) \w+)\b
        |\b{_BE.replace("'s|", "")}\s(?:not|n't)\s(?:right|correct|possible|valid|helpful|useful|working|true
        |enough|matching|an integer)\b
        |\b{_NEG}\s(?:seem to |quite |really |look )?(?:work|help|match|hold|fit|satisfy|make sense|add up|lead
        |give|equal|right|correct)
        |\bnot (?:right|correct|possible|valid|helpful|useful|what (?:we|i) (?:want|need)|quite|close
        |directly helpful)\b
        |\bcontradict(?:s|ion|ing|ory)\b|\bdead[ -]?end\b|^\s*dead\s*$|\bno luck\b|\bno solutions?\b|\bstuck\b
        |\b(?:made|make|is|was|contains?) (?:a|an|some) (?:\w+ )?(?:mistake|error)s?\b|\bmistaken\b
        |\bfail(?:s|ed)?\b|\btoo (?:big|small|large|high|low|much|far|complicated|complex|messy|convoluted
        |speculative|vague|tedious)\b
        |\binvalid\b|\bincorrect\b|\bimpossible\b|[✗❌✘]|\bwrong\b|\bnowhere\b|\bovershoots?\b|\(\s*(?:no|not
        |still not)\b
        |, (?:but )?(?:still )?not \d+|\bneed \d+ more\b|\bnot equal\b|\d\s?≠\s?\d|\bunrealistic\b
    """,
    Turn.SWITCH: rf"""
        {_LEAD}(?:alternatively|instead|on second thought|how about|what if|what about|next (?:attempt|try)
            |try(?:ing)?\b|{_LET} (?:instead|(?:just |now |then )?(?:try|attempt|explore|approach
            |think (?:differently|again|about it differently|of {_OTHER}))\b
            |(?:consider|look (?:for|at)|use|take|find) {_OTHER})
            |(?:maybe |perhaps )?(?:there's |there is |we need |i need )?{_OTHER} {_WAY}
            |attempt \d|approach \d|suppose instead)
        |\b{_LET} (?:\w+ )?(?:try|consider|look for|think of) (?:\w+ )?{_OTHER}\b|\b(?:try|use) {_OTHER} {_WAY}
        |\blet me try\b|\btry again\b
    """,
    Turn.FLOAT: rf"""
        {_LEAD}(?:maybe|perhaps|possibly|could it be|i wonder|suppose\b|it might be|one (?:idea|thought
        |possibility)|another thought)
    """,
    Turn.REVISE: rf"""
        ^[\s>*•#\-]{{0,12}}(?:(?:hmm+|oh|ah|but|no|okay|so)[,.!…]{{0,3}}\s+){{0,2}}(?:wait|hold on|oops
        |scratch that|correction|hang on|sorry)\b
        |{_LEAD}(?:actually,? (?:no|that|i)\b|i (?:made|think i made|must have made|may have made)\b
        |i (?:mis\w+)\b|no,)
    """,
    Turn.RESTART: rf"""
        \bstart(?:ing)? (?:over|again|afresh|fresh|anew|from scratch|from the beginning)\b|\bbegin again\b
        |\bfrom (?:scratch|the (?:very )?beginning)\b|{_LEAD}{_LET} (?:re-?(?:do|start|work|solve)|redo)\b
    """,
    Turn.RETURN: rf"""
        {_LEAD}(?:{_LET} )?(?:(?:go|going|come|coming|get|getting|step|stepping) )?(?:back(?: to)?
        |return(?:ing)? to|backtrack(?:ing)?(?: to)?)\b
    """,
    Turn.CHECK: rf"""
        {_LEAD}(?:{_LET} (?:just |also |quickly |now |go back and )?(?:verify|check|double[ -]?check|confirm
        |re-?check|re-?verify|validate
            |make sure|see if (?:this|that|it)|test|re-?calculate|recompute)
            |to (?:verify|double[ -]?check|confirm|check|be (?:sure|safe|certain|thorough)|make sure)
            |(?:double[ -]?)?check(?:ing)?\b|verif(?:y|ying|ication)\b
            |plug(?:ging)? (?:this|it|these|them|that) back|substitut(?:e|ing) back|(?:as a )?(?:quick )?sanity check
            |just to (?:be|make|double|verify|confirm|check))
    """,
    Turn.CONFIRM: r"""
        [✓✔✅]|\bmatch(?:es)?\b|\bchecks out\b|\b(?:is|are|seems|looks) (?:indeed )?(?:correct|right|consistent
        |valid|true|satisfied)\b|\bconsistent\b
        |\bthat's (?:right|correct)\b|\bas expected\b|\bworks\b|\bholds\b|\bverified\b|\bconfirm(?:ed|s)\b
        |\bsame (?:answer|result|value)\b|\bindeed\b
    """,
    Turn.GUESS: rf"""
        {_LEAD}(?:given the (?:time|complexity|constraints)|i'?(?:ll| will) (?:just )?(?:guess|go with|assume
        |settle)|(?:my|a|an educated) (?:best )?guess|i give up)
        |\b(?:i'?ll|i will) (?:have to )?(?:guess|go with|settle)\b
    """,
}
_COMPILED = {turn: re.compile(re.sub(r"\n\s*", "", rule), re.IGNORECASE) for turn, rule in _RULES.items()}

_NEGATED = re.compile(r"\b(?:not|n't|without|no|avoid|if)\s+(?:a\s|any\s)?(?:\w+\s)?$", re.IGNORECASE)


def turns_of(text: str) -> dict[Turn, str]:
    """What a step says, each with the phrase that says it, in the order of `Turn`."""
    seen = text[:LOOKED_AT].replace("’", "'")
    found = ((turn, _phrase(turn, rule, seen)) for turn, rule in _COMPILED.items())
    return {turn: phrase for turn, phrase in found if phrase is not None}


def _phrase(turn: Turn, rule: re.Pattern[str], text: str) -> str | None:
    match = rule.search(text)
    if match is None or (turn is Turn.CONFIRM and _NEGATED.search(text[: match.start()])):
        return None
    return " ".join(match[0].split())
