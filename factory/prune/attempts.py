"""The attempts of a linear chain: a tree of the lines that it follows, and which of them it gives up.

A line begins where a step says so (`turns`), or where the chain visibly begins over (`restarts`), and lasts to the next
beginning. It hangs below the line that it goes back to. Four things give a line up:

    a named return   "back to 3 7 12" closes all since the step that ended with just these numbers, or, where the
                     problem has them, since the beginning
    a rejection      a line that was tried ends with "that does not work", and another one begins
    an exchange      a line that was tried is left for another one ("alternatively") before it came to anything
    a restart        all since the beginning is left for a second beginning, which a chain that says nowhere that it
                     turns may begin without a word

A line that came to the final answer is never given up, nor is what nothing says is tried, and one in which something
was confirmed is not exchanged. Where it is not clear what is given up, nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from factory.prune.answers import Stated, reached
from factory.prune.restarts import Restarts
from factory.prune.steps import TAG, Step
from factory.prune.turns import Turn, turns_of

WINDOW = 2
"""Last steps of a line in which a rejection is one of the line, and not of something in it."""

TRIED = frozenset({Turn.SWITCH, Turn.FLOAT})
"""Beginnings of lines that are tried."""
_BEGINNINGS = (Turn.RESTART, Turn.SWITCH, Turn.CHECK, Turn.FLOAT)
"""What begins a line; the first that a step says counts."""
_SPOKEN = (Turn.SWITCH, Turn.REVISE)
"""What a chain says that tells of its turns; one that does is not looked at for silent ones."""
_EXCHANGE = re.compile(
    r"\b(?:alternatively|instead|another|different(?:ly)?|alternative|some other|a new"
    r"|a better|a simpler|second thought|again)\b",
    re.IGNORECASE,
)
_CASE = re.compile(r"\W{0,6}alternatively,? if\b", re.IGNORECASE)
"""Another case of the same distinction."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_STATE = re.compile(r"\d+(?:\.\d+)?(?:(?:,? and |[ ,]+)\d+(?:\.\d+)?)+")
"""Numbers side by side, such as a step leaves."""


@dataclass(frozen=True, slots=True)
class Line:
    """Steps that follow one idea."""

    first: int
    """Index of its first step."""
    end: int
    """Index behind its last step."""
    parent: int | None
    """Index of the line that it goes back to; None for the first line."""
    turn: Turn | None
    """What began it; None for the first line."""
    phrase: str
    """The words that began it; empty for the first line."""
    given_up: str | None = None
    """The evidence that it was given up; None where it was not."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Steps of a chain that it left, and where it went back to."""

    first: int
    end: int
    evidence: str


def attempts(question: str, steps: Sequence[Step], answers: Sequence[Stated]) -> tuple[list[Line], list[GivenUp]]:
    """The tree of lines, parents first, and what was given up, in order of its ends."""
    says = [turns_of(step.text) for step in steps]
    given_up = _returns(question, steps, says)
    live = [True] * len(steps)
    for one in given_up:
        live[one.first : one.end] = [False] * (one.end - one.first)
    chain = _Chain(steps, says, live, _keeping(steps, answers))
    spoken = any(turn in one for one in says for turn in _SPOKEN)
    lines = _lines(chain, None if spoken else Restarts(question, steps))
    given_up += _restarted(chain, lines)
    lines, left = _left(chain, lines)
    return lines, given_up + left


@dataclass(frozen=True, slots=True)
class _Chain:
    steps: Sequence[Step]
    says: Sequence[dict[Turn, str]]
    live: Sequence[bool]
    """Whether a step is not given up by a named return."""
    final: frozenset[int]
    """Steps that come to the final answer."""


def _keeping(steps: Sequence[Step], answers: Sequence[Stated]) -> frozenset[int]:
    if not answers:
        return frozenset()
    value = answers[-1].value
    said_next = {at: next((one.value for one in answers if one.step >= at), value) for at in reached(steps, value)}
    said = (one.step for one in answers if one.value == value)
    return frozenset([*said, *(at for at, told in said_next.items() if told == value)])


# --- named returns


def _returns(question: str, steps: Sequence[Step], says: Sequence[dict[Turn, str]]) -> list[GivenUp]:
    found: list[GivenUp] = []
    given = sorted(_NUMBER.findall(question))
    tails: list[tuple[int, list[str]]] = []
    for at, step in enumerate(steps):
        numbers = _NUMBER.findall(step.text)
        if Turn.RETURN in says[at] and (state := _STATE.search(step.text)):
            place = _place(_NUMBER.findall(state[0]), tails, given)
            if place is not None:
                tails = [one for one in tails if one[0] <= place]
                found.append(GivenUp(place + 1, at + 1, _went_back(says[at][Turn.RETURN], steps, place)))
                continue
        tails.append((at, numbers))
    return [one for one in found if not any(_holds(other, one) for other in found)]


def _holds(outer: GivenUp, inner: GivenUp) -> bool:
    return outer is not inner and outer.first <= inner.first and inner.end <= outer.end


def _place(numbers: list[str], tails: Sequence[tuple[int, list[str]]], given: list[str]) -> int | None:
    """The last step that ended with these numbers; -1 for the problem; None for neither."""
    for at, tail in reversed(tails):
        if tail[-len(numbers) :] == numbers:
            return at
    return -1 if _is_within(sorted(numbers), given) else None


def _is_within(numbers: list[str], given: list[str]) -> bool:
    """Whether these are the problem's numbers, of which it may have one more: what they are to make."""
    left = list(given)
    for number in numbers:
        if number not in left:
            return False
        left.remove(number)
    return len(left) <= 1


def _went_back(phrase: str, steps: Sequence[Step], place: int) -> str:
    where = "the beginning" if place < 0 else f"the step at {steps[place].start}"
    return f"{phrase!r} goes back to {where}"


# --- lines


def _lines(chain: _Chain, restarts: Restarts | None) -> list[Line]:
    """The lines in order, none given up yet."""
    begun = [(0, None, "")] + [one for at in range(1, len(chain.steps)) if (one := _beginning(chain, restarts, at))]
    ends = [at for at, *_ in begun[1:]] + [len(chain.steps)]
    lines: list[Line] = []
    for (first, turn, phrase), end in zip(begun, ends, strict=True):
        lines.append(Line(first, end, _parent(lines, turn), turn, phrase))
    return lines


def _beginning(chain: _Chain, restarts: Restarts | None, at: int) -> tuple[int, Turn | None, str] | None:
    if not chain.live[at]:
        return None
    turn = next((turn for turn in _BEGINNINGS if turn in chain.says[at]), None)
    if turn is None and restarts is not None and (evidence := restarts.at(at)) is not None:
        return at, Turn.RESTART, evidence
    return None if turn is None else (at, turn, chain.says[at][turn])


def _parent(lines: Sequence[Line], turn: Turn | None) -> int | None:
    """A restart goes back to the first line, a second try to where the first one hangs, anything else goes on."""
    if not lines:
        return None
    if turn is Turn.RESTART:
        return 0
    last = len(lines) - 1
    tried = lines[last].turn in TRIED and turn in TRIED
    return lines[last].parent if tried else last


# --- what is given up


def _left(chain: _Chain, lines: Sequence[Line]) -> tuple[list[Line], list[GivenUp]]:
    """Lines that were tried and left for the next one, with the checks that hang on them."""
    told, found = list(lines), list[GivenUp]()
    for at, line in enumerate(lines[:-1]):
        after = next((i for i in range(at + 1, len(lines)) if lines[i].turn is not Turn.CHECK), None)
        if line.turn not in TRIED or after is None:
            continue
        end = lines[after].first
        evidence = _why(chain, line, lines[after], end)
        if evidence is not None:
            told[at] = Line(line.first, line.end, line.parent, line.turn, line.phrase, evidence)
            found.append(GivenUp(line.first, end, evidence))
    return told, found


def _why(chain: _Chain, line: Line, after: Line, end: int) -> str | None:
    if after.turn not in (*TRIED, Turn.RESTART) or any(line.first <= at < end for at in chain.final):
        return None
    back = f"then {after.phrase!r} begins at {chain.steps[after.first].start}"
    rejected = _rejection(chain, max(line.first, end - WINDOW), end)
    if rejected is not None:
        return f"{rejected!r}, {back}"
    text = chain.steps[after.first].text
    if _CASE.match(text):
        return None
    confirmed = any(Turn.CONFIRM in chain.says[at] for at in range(line.first, end))
    if after.turn is Turn.SWITCH and _EXCHANGE.search(text[:80]) and not confirmed:
        return f"left without a result, {back}"
    return None


def _rejection(chain: _Chain, first: int, end: int) -> str | None:
    said = (chain.says[at].get(Turn.REJECT) for at in range(end - 1, first - 1, -1) if chain.live[at])
    return next((phrase for phrase in said if phrase is not None), None)


def _restarted(chain: _Chain, lines: Sequence[Line]) -> list[GivenUp]:
    """All before the last restart before which the final answer was not said."""
    restarts = [line for before, line in pairwise(lines) if line.turn is Turn.RESTART and not _opens(before)]
    starts = [line for line in restarts if not any(at < line.first for at in chain.final)]
    if not starts:
        return []
    last = starts[-1]
    first = next((at for at, step in enumerate(chain.steps) if not _is_blank(step)), 0)
    return [GivenUp(first, last.first, f"{last.phrase} at {chain.steps[last.first].start}, a second beginning")]


def _opens(line: Line) -> bool:
    """Whether a line says no more than that something is checked, so that what is begun again is the check."""
    return line.turn is Turn.CHECK and line.end - line.first <= WINDOW


def _is_blank(step: Step) -> bool:
    return not TAG.sub("", step.text).strip()
