"""Verification that repeats, and hedging that leads nowhere.

A check begins by saying that it is one and ends with the last step of its line that says that all is well. One in
which anything is doubted or does not hold is left alone, since it may be what puts the chain right, and so is one of
another case than before. The first check of a chain that holds stays; those after it repeat. So does a line that begins
after the final answer was said and ends by saying it again.

A hedge is a step that says nothing but doubt: no number, no formula. A lone "so" doubts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.prune.answers import Stated
from factory.prune.attempts import Line
from factory.prune.steps import Step
from factory.prune.turns import Turn, turns_of

MAX_CHECK = 24
"""Steps that a check may last."""

_HEDGE = re.compile(
    r"^[\s*\-]{0,6}(?=[^.]*[a-z])(?!(?:(?:okay|ok|well|but|so|oh)[,.!…]*\s*)+$)"
    r"(?:(?:hmm+|wait|okay|ok|well|but|so|oh)[,.!…]*\s*)*"
    r"(?:(?:let me (?:think|see)(?: (?:about (?:this|that|it)|carefully|again|step by step))?"
    r"|i(?:'m| am) (?:not (?:sure|certain)|(?:a (?:bit|little) )?(?:confused|stuck|unsure))[^.]{0,60}"
    r"|(?:this|that|it)(?:'s| is| seems| looks| sounds)(?: (?:a bit|quite|getting|very|really|pretty|too))? "
    r"(?:tricky|confusing|complicated|complex|hard|difficult|messy|tedious|challenging|time-consuming)[^.,]{0,40}"
    r"|(?:is|am) (?:that|this|i) (?:right|correct)"
    r"|i(?:'ll| will)? (?:need to )?(?:think|be careful)[^.]{0,40}))?[.!?…\s]*$",
    re.IGNORECASE,
)
_WORK = re.compile(r"[\d=$\\`]")
_ANOTHER = re.compile(r"\b(?:also|too|as well|both|either)\b", re.IGNORECASE)
"""What a check of another case says."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Steps that add nothing."""

    first: int
    end: int
    evidence: str


def repeated_checks(steps: Sequence[Step], lines: Sequence[Line], answers: Sequence[Stated]) -> list[Idle]:
    """In order."""
    held = [found for line in lines if line.turn is Turn.CHECK and (found := _held(steps, line)) is not None]
    return sorted([*held[1:], *_said_again(steps, lines, answers)], key=lambda one: one.first)


def _held(steps: Sequence[Step], line: Line) -> Idle | None:
    """A check from its beginning to the last step that says that it holds; None where not all of it does."""
    says = [turns_of(step.text) for step in steps[line.first : min(line.end, line.first + MAX_CHECK)]]
    doubts = any(Turn.REJECT in one for one in says) or any(Turn.REVISE in one for one in says[1:])
    holds = [at for at, one in enumerate(says) if Turn.CONFIRM in one and (at or _computes(steps[line.first]))]
    if doubts or not holds or any(_ANOTHER.search(steps[line.first + at].text) for at in holds):
        return None
    last, phrase = holds[-1], says[holds[-1]][Turn.CONFIRM]
    return Idle(line.first, line.first + last + 1, f"{line.phrase!r} ends with {phrase!r}, as an earlier check did")


def _computes(step: Step) -> bool:
    """Whether what is checked is worked out in the step that says that it is."""
    return "=" in step.text


def _said_again(steps: Sequence[Step], lines: Sequence[Line], answers: Sequence[Stated]) -> Iterator[Idle]:
    final = [one.step for one in answers if one.value == answers[-1].value]
    if not final or any(one.step > final[0] and one.value != answers[-1].value for one in answers):
        return
    for line in lines:
        again = [at for at in final if line.first < at < line.end]
        if line.first > final[0] and line.turn is not None and again and again[-1] != final[-1]:
            place = steps[final[0]].start
            yield Idle(line.first, again[-1] + 1, f"comes to the answer that was said at {place}")


def hedges(steps: Sequence[Step]) -> list[Idle]:
    """In order; one for each step."""
    return [
        Idle(at, at + 1, "no number, no formula, only doubt")
        for at, step in enumerate(steps)
        if step.text.strip() and not _WORK.search(step.text) and _HEDGE.match(step.text.strip().replace("’", "'"))
    ]
