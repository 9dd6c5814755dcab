r"""What stays must not rest on what goes: cuts that would take away where a number or a name comes from are withdrawn.

A cut introduces what is said in it and nowhere before in what stays, the problem included: numbers of more than one
digit, names of variables, labels such as `equation 2`. If what stays says one of them later, and does not introduce
it itself (`= 37`, `let r be`), it rests on the cut. So it does if it begins with "therefore" behind the cut, or
points back in its first sentences. A cut that is withdrawn is text that stays, and may itself rest on another cut, so
this goes on until nothing changes.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.prune.base import Cut

CONSTANTS = frozenset(["10", "12", "24", "60", "90", "100", "120", "180", "270", "360", "365", "1000", "3.14"])
"""Numbers that need no origin."""
AHEAD = 160
"""Characters behind a cut in which a pointer back means the cut."""

_MENTION = re.compile(
    r"(?P<label>\b(?:equation|eq\.|case|lemma|claim|method|option|statement|condition|attempt)s?\s*\(?\d{1,3}\b)"
    r"|(?P<number>(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w]))"
    r"|(?P<name>\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|rho|sigma)\b"
    r"|(?<![A-Za-z\\'’.])[A-Za-z](?:_\{?\w{1,4}\}?|\d{1,2})?(?![A-Za-z'’])|\b[a-z]+_[a-z_]+\b)",
    re.IGNORECASE,
)
_MADE = re.compile(
    r"(?:=|≈|→|:|\\approx|\\implies|\\Rightarrow|\b(?:is|are|be|get|gives?|equals?|makes?|becomes?|left|yields?))"
    r"[\s$\\(\[{*#≈=-]{0,8}$"
)
_NAMED = re.compile(
    r"\b(?:(?:let(?! me\b)|denote|call|define|set|suppose|assume|consider|represent)\b[^.;\n]{0,40}"
    r"|(?:where|say|with|for|if|given)(?: (?:any|all|each|every|some|an?|the|integers?|numbers?))*[\s$\\(]{1,4})$",
    re.IGNORECASE,
)
_BARE = re.compile(r"[a-z]\s*(?:\\\(|\$|\()\s*$", re.IGNORECASE)
_BECOMES = re.compile(r"[\s})$\\]{0,4}(?:=|:=|≈|\bbe\b|\bis\b|\bare\b|\bdenotes?|\brepresents?|:)")
_MATHS = re.compile(r"[=+\-*/^<>$(]\s?$")
_THEREFORE = re.compile(
    r"^\W{0,6}(?:therefore|thus|hence|which|consequently|as a result|(?:this|that) (?:means|gives|implies|shows|equals)"
    r"|from this|(?:substituting|plugging|using) (?:this|these|it|that)\b)",
    re.IGNORECASE,
)
_POINTER = re.compile(
    r"\b(?:as (?:before|above|earlier|computed|found|shown)|(?:we|i) (?:just )?(?:found|computed|calculated|derived)"
    r"|the previous (?:step|result|equation))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Mention:
    start: int
    word: str
    made: bool
    """Whether this mention is itself where it comes from."""


def withdraw(question: str, text: str, cuts: Sequence[Cut]) -> list[tuple[Cut, str]]:
    """Those of the guesses that must not be made, each with the evidence; `cuts` are in order and disjoint."""
    known = _known(question)
    mentions = [mention for mention in _mentions(text) if mention.word not in known]
    made, withdrawn = list(cuts), list[tuple[Cut, str]]()
    while True:
        found = [(cut, why) for cut in made if cut.guess and (why := _rests(text, mentions, made, cut))]
        if not found:
            return withdrawn
        withdrawn += found
        gone = {cut for cut, _ in found}
        made = [cut for cut in made if cut not in gone]


def bridges(question: str, text: str) -> list[tuple[int, int]]:
    """Stretches of a text over which something reaches: from where it was said last to where it is used.

    A place in none of them stands where all that follows is independent of all that came before.
    """
    known = _known(question)
    last: dict[str, int] = {}
    found: list[tuple[int, int]] = []
    for mention in _mentions(text):
        if mention.word not in known:
            if not mention.made and mention.word in last:
                found.append((last[mention.word], mention.start))
            last[mention.word] = mention.start
    return found


def _known(question: str) -> set[str]:
    """What needs no origin since the problem says it, as a number or as a share of a hundred."""
    words = {mention.word for mention in _mentions(question)}
    shares = {f"{float(word) / 100:g}" for word in re.findall(r"\d+(?:\.\d+)?(?=\s*\\?%)", question)}
    return words | shares


def _mentions(text: str) -> Iterator[_Mention]:
    for match in _MENTION.finditer(text):
        word = match[0].lower() if match["label"] else match[0].replace(",", "").rstrip(".")
        if _counts(match, word, text):
            yield _Mention(match.start(), word, _is_made(match, text))


def _counts(match: re.Match[str], word: str, text: str) -> bool:
    """Whether a mention is of something that has an origin at all."""
    if match["number"]:
        return len(word) > 1 and word not in CONSTANTS
    before = text[max(0, match.start() - 2) : match.start()]
    if word in {"a", "A", "I"}:
        return bool(_MATHS.search(before))
    if word in {"x", "X"} and before[-1:] == " ":  # between numbers it multiplies
        return not re.match(r"\s?[$\d.]", text[match.end() : match.end() + 2])
    return True


def _is_made(match: re.Match[str], text: str) -> bool:
    before = text[max(0, match.start() - 60) : match.start()]
    if match["number"]:
        return bool(_MADE.search(before))
    if match["label"]:
        return before.rpartition("\n")[2].strip(" *#-") == ""
    after = text[match.end() : match.end() + 20]
    return bool(_BECOMES.match(after) or _NAMED.search(before) or _BARE.search(before))


def _rests(text: str, mentions: Sequence[_Mention], cuts: Sequence[Cut], cut: Cut) -> str | None:
    """Why what stays rests on a cut; None where it does not."""
    after = text[cut.end : cut.end + AHEAD]
    if (points := _THEREFORE.match(after) or _POINTER.search(after)) and not _is_cut(cut.end, cuts):
        return f"what follows points back to it: {points[0].strip()!r}"
    starts = [one.start for one in cuts]
    inside = mentions[_at(mentions, cut.start) : _at(mentions, cut.end)]
    words = {mention.word for mention in inside}
    for mention in mentions:
        if mention.word in words and not _covers(cuts, starts, mention.start):
            words.discard(mention.word)
            if mention.start >= cut.end and not mention.made:
                return f"{mention.word!r}, used at {mention.start}, comes from it"
    return None


def _at(mentions: Sequence[_Mention], place: int) -> int:
    return bisect_left(mentions, place, key=lambda mention: mention.start)


def _is_cut(place: int, cuts: Sequence[Cut]) -> bool:
    return _covers(cuts, [one.start for one in cuts], place)


def _covers(cuts: Sequence[Cut], starts: Sequence[int], place: int) -> bool:
    at = bisect_right(starts, place) - 1
    return at >= 0 and place < cuts[at].end
