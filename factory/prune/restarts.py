"""Where a chain visibly begins over, whatever words it turns with: it says again what it said at its beginning.

Signs are added up: the step begins like the chain did, or as solutions begin; its words and numbers are the problem's;
its numbering begins anew; a remark without any work stands before it; and nothing from there on uses what was
found before. Only the first step of a line, or of what follows a remark, can be one, only behind a step that came to
something, and none that goes on from what it follows ("so", "now").
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from factory.prune.rests import bridges
from factory.prune.steps import Step

AFTER = 2
"""Steps that a first beginning has at least."""
ENOUGH = 3.0
"""Points that make a second beginning."""

REMARK = 1.5
"""Points for a remark right before it."""
FRESH = 1.0
"""Points for using nothing that was found before."""

_WORK = re.compile(r"[\d=$\\`:]")
_RESULT = re.compile(r"[=≈<>]|\b(?:is|are|gives|get|equals|costs?|has|have|was|were)\b[^.\n]{0,30}\d")
"""What a step that comes to something says."""
_GOES_ON = re.compile(
    r"[\s*#>\-]{0,8}(?:now|so|thus|therefore|hence|then|next|also)\b|.{0,60}\bindeed\b", re.IGNORECASE
)
"""How a step goes on from what stands before it."""
_NEXT = re.compile(
    r"\b(?:now|next|let's|let us|we|first|second|following|simplif\w+|comput\w+|calculat\w+|solv\w+|find)\b",
    re.IGNORECASE,
)
"""What a remark that leads on to the next part of the same work says."""
_WORD = re.compile(r"[A-Za-z]{3,}|\d+(?:\.\d+)?")
_COMMON = frozenset(
    [
        "the",
        "and",
        "for",
        "that",
        "this",
        "with",
        "are",
        "can",
        "has",
        "have",
        "was",
        "were",
        "from",
        "which",
        "what",
        "how",
        "find",
        "let",
        "use",
        "using",
        "need",
        "given",
        "each",
        "its",
        "all",
        "get",
        "will",
        "our",
        "then",
        "since",
        "first",
        "if",
        "is",
        "of",
        "to",
        "in",
        "we",
        "so",
    ]
)
_OPENING = re.compile(
    r"^[\s*#>\-]{0,8}(?:(?:okay|ok|so|alright|now)[,.]?\s+)?(?:to (?:solve|find|determine|calculate|compute|answer"
    r"|count|prove|figure|simplify|evaluate)\b"
    r"|let's (?:solve|start|begin|break|tackle|analy[sz]e|denote)|let (?:\$|\\\(|[a-z]\b)"
    r"|we (?:are (?:given|asked|told)|start|begin|have|know|need|want)\b"
    r"|given\b|first\b|step 1\b|here's\b|the (?:problem|question|given|total|number)\b|i (?:need|have) to\b|steps?:)",
    re.IGNORECASE,
)
_FIRST = re.compile(r"[\s*#>\-]{0,8}(?:\w+[,.]?\s+)?first\b", re.IGNORECASE)
_NUMBERED = re.compile(r"^[\s*#]{0,8}(?:step\s+)?1[.:)]", re.IGNORECASE)


class Restarts:
    """Finds second beginnings in one chain."""

    def __init__(self, question: str, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._question = _words(question)
        self._openings = [_start(step.text) for step in steps[:2]]
        start = steps[0].start if steps else 0
        self._worked = next((at + 1 for at, step in enumerate(steps) if _RESULT.search(step.text)), len(steps))
        self._bridged = _Bridged(bridges(question, "".join(step.text for step in steps)), start)
        self._first = next((step.start for step in steps if _FIRST.match(step.text)), 0)
        self._numbered = next((at for at, step in enumerate(steps) if _NUMBERED.match(step.text)), len(steps))

    def at(self, place: int) -> str | None:
        """The evidence that the chain begins over with this step; None where it does not."""
        step = self._steps[place]
        remark = self._is_remark(place - 1)
        if place < max(AFTER, self._worked) or not (self._begins(place) or (remark and self._begins(place - 1))):
            return None
        if _GOES_ON.match(step.text):
            return None
        points = self._like_the_opening(step) + self._like_the_problem(place) + self._numbered_anew(place)
        points += (REMARK if remark else 0.0) + (0.0 if self._bridged.at(step.start) else FRESH)
        return f"like the beginning ({points:.1f}): {step.text[:60].strip()!r}" if points >= ENOUGH else None

    def _begins(self, place: int) -> bool:
        """Whether a step begins a line."""
        return place == 0 or self._steps[place - 1].text.endswith("\n")

    def _is_remark(self, place: int) -> bool:
        """Whether a step computes nothing and introduces nothing, and begins or ends a paragraph."""
        text = self._steps[place].text
        edge = text.endswith("\n\n") or (place > 0 and self._steps[place - 1].text.endswith("\n\n"))
        return edge and not _WORK.search(text) and len(text.split()) <= 16 and not _NEXT.search(text)

    def _like_the_opening(self, step: Step) -> float:
        start = _start(step.text)
        shared = max((_shared(start, opening) for opening in self._openings), default=0)
        opens = _OPENING.match(step.text) and not (_FIRST.match(step.text) and step.start <= self._first)
        return min(shared, 4) / 4 + (1.0 if opens else 0.0)

    def _like_the_problem(self, place: int) -> float:
        said = _words(self._steps[place].text)
        share = len(said & self._question) / max(len(said), 1)
        return share if len(said & self._question) >= 3 else 0.0

    def _numbered_anew(self, place: int) -> float:
        near = range(place, min(place + 3, len(self._steps)))
        anew = self._numbered < place and any(_NUMBERED.match(self._steps[at].text) for at in near)
        return 0.5 if anew else 0.0


class _Bridged:
    """Whether something reaches over a place: how many of the stretches it is in, counted from both ends."""

    def __init__(self, stretches: Sequence[tuple[int, int]], start: int) -> None:
        self._opened = sorted(start + first for first, _ in stretches)
        self._closed = sorted(start + last for _, last in stretches)

    def at(self, place: int) -> bool:
        return bisect_left(self._opened, place) > bisect_left(self._closed, place)


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower())) - _COMMON


def _start(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+|\d+", text.lower())[:6]


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Words that both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
