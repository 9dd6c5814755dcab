"""Finds what did not matter in a chain of thought that is free text: dead ends, loops, repeated checks, hedging.

Rules find it, and rules can be wrong: each cut is a guess, with its evidence, and the text that says the final answer
is never in one, nor a part of what answer tags enclose. Only the last thinking is read, or all of a text without any.
Chains of Countdown are left alone: they have a pruner of their own, which replays them. So are answers that are nothing
but a program.

`Outline` is the seam for another reader of chains, a model for one: it says which lines a chain gives up, and what is
done with that stays the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from factory.prune.answers import Stated, is_answer, said, stated, thinking
from factory.prune.attempts import GivenUp, Line, attempts
from factory.prune.base import ABANDONED, AFTER_FIRST_RIGHT, HEDGE, LOOP, REPEATED_CHECK, Cut
from factory.prune.checks import hedges, repeated_checks
from factory.prune.loops import loops
from factory.prune.steps import TAG, Step, steps_of
from factory.prune.turns import turns_of
from factory.types import Problem

_WORK = re.compile(r"[\d=$\\`]")


class Outline(Protocol):
    """Reads the attempts of a chain."""

    def __call__(
        self, question: str, steps: Sequence[Step], answers: Sequence[Stated]
    ) -> tuple[list[Line], list[GivenUp]]:
        """The tree of lines, parents first, and what was given up; `answers` in order, the last one final."""
        ...


class FreeTextPruner:
    """Reads any text by its form."""

    name = "freetext"
    version = "2"

    def __init__(self, outline: Outline = attempts) -> None:
        self._outline = outline

    def cuts(self, problem: Problem, text: str) -> list[Cut]:
        """Guesses, in the order of precedence: loops, what was given up, repeated checks, hedging."""
        if any(check.verifier == "countdown" for check in problem.checks) or _is_program(problem, text):
            return []
        start, end = thinking(text)
        steps = steps_of(text, start, end)
        made = self._found(question_of(problem), steps, said(text[end:]))
        found = [cut for one in made if (cut := _made(steps, *one)) is not None]
        kept, whole = _kept(text, steps), _boxes(steps)
        cuts = [_up_to(cut, kept) if cut.reason == LOOP else cut for cut in found]
        return [cut for cut in cuts if cut.start < cut.end and not _touches(cut, kept) and not _splits(cut, whole)]

    def _found(
        self, question: str, steps: Sequence[Step], behind: tuple[str, ...]
    ) -> Iterator[tuple[int, int, str, str]]:
        """`behind`: the answer that is said behind the thinking, for one that says none itself."""
        answers = stated(steps) or ([Stated(len(steps) - 1, behind)] if steps and behind else [])
        lines, given_up = self._outline(question, steps, answers)
        for loop in loops(steps):
            rounds = (loop.end - loop.first) / loop.period
            yield loop.first, loop.end, LOOP, f"{rounds:.1f} times the {loop.period} steps before it"
        for one in given_up:
            yield one.first, one.end, ABANDONED, one.evidence
        for idle in repeated_checks(steps, lines, answers):
            yield idle.first, idle.end, REPEATED_CHECK, idle.evidence
        for idle in hedges(steps):
            yield idle.first, idle.end, HEDGE, idle.evidence


def _is_program(problem: Problem, text: str) -> bool:
    """Whether an answer is nothing but a program, in which no line can go that is not dead code.

    Where a program is in a fence or behind thinking, the text before it is read.
    """
    return any(check.verifier == "code" for check in problem.checks) and "```" not in text and not TAG.search(text)


def question_of(problem: Problem) -> str:
    """What the problem says, as a chain may repeat it."""
    return "\n".join(message.content for message in problem.messages)


def is_answer_only(text: str, cuts: Sequence[Cut]) -> bool:
    """Whether no step of the last thinking (of the text, where there is none) that says more than an answer is left."""
    left = (step for step in steps_of(text, *thinking(text)) if not any(c.start <= step.start < c.end for c in cuts))
    return not any(_reasons(step) for step in left)


def _reasons(step: Step) -> bool:
    """Whether a step says more than an answer, or than that the chain turns."""
    return not is_answer(step) and (bool(_WORK.search(step.text)) or not turns_of(step.text))


def after_first_right(text: str, is_right: Callable[[str], bool]) -> Cut | None:
    """All that the thinking (the text, where there is none) says behind the first answer that is right.

    `is_right` is asked about the thinking up to each answer that is said, in order. None where none is right, or the
    last one is the first.
    """
    start, end = thinking(text)
    steps = steps_of(text, start, end)
    for one in stated(steps):
        place = steps[one.step].end
        if is_right(text[start:place]):
            rest = text[place:end].strip()
            return Cut(place, end, AFTER_FIRST_RIGHT, "the answer before it verifies", guess=True) if rest else None
    return None


def _made(steps: Sequence[Step], first: int, end: int, reason: str, evidence: str) -> Cut | None:
    """Tags at either end stay."""
    while first < end and _is_tag(steps[first]):
        first += 1
    return Cut(steps[first].start, steps[end - 1].end, reason, evidence, guess=True) if first < end else None


def _kept(text: str, steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Stretches that no cut may touch: tags of thinking, the last answer, and the last step where nothing follows."""
    kept = [(step.start, step.end) for step in steps if _is_tag(step) and "answer" not in step.text]
    kept += [(steps[one.step].start, steps[one.step].end) for one in stated(steps)[-1:]]
    if steps and not text[steps[-1].end :].strip():
        kept.append((steps[-1].start, steps[-1].end))
    return kept


def _boxes(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Stretches from an opening tag of an answer to its closing one."""
    tags = [step for step in steps if _is_tag(step) and "answer" in step.text]
    return [(one.start, other.end) for one, other in pairwise(tags) if "/" not in one.text and "/" in other.text]


def _is_tag(step: Step) -> bool:
    return bool(TAG.fullmatch(step.text.strip()))


def _up_to(cut: Cut, stretches: Sequence[tuple[int, int]]) -> Cut:
    """A loop as far as the first of these in it: what is left of its last round is only said once more."""
    return replace(cut, end=min((start for start, _ in stretches if cut.start <= start < cut.end), default=cut.end))


def _touches(cut: Cut, stretches: Sequence[tuple[int, int]]) -> bool:
    return any(start < cut.end and cut.start < end for start, end in stretches)


def _splits(cut: Cut, stretches: Sequence[tuple[int, int]]) -> bool:
    """Whether a cut takes a part of one of these."""
    return any(_touches(cut, [one]) and not (cut.start <= one[0] and one[1] <= cut.end) for one in stretches)
