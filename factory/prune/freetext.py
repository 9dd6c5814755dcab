"""Finds what did not matter in a chain of thought that is free text: dead ends, loops, repeated checks, hedging.

Rules find it, and rules can be wrong: each cut is a guess, with its evidence, and the text that says the final answer
is never in one. Only the last thinking is read, or all of a text without any. Chains of Countdown are left alone: they
have a pruner of their own, which replays them.

`Outline` is the seam for another reader of chains, a model for one: it says which lines a chain gives up, and what is
done with that stays the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from factory.prune.answers import Stated, is_answer, stated, thinking
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
    version = "1"

    def __init__(self, outline: Outline = attempts) -> None:
        self._outline = outline

    def cuts(self, problem: Problem, text: str) -> list[Cut]:
        """Guesses, in the order of precedence: loops, what was given up, repeated checks, hedging."""
        if any(check.verifier == "countdown" for check in problem.checks):
            return []
        start, end = thinking(text)
        steps = steps_of(text, start, end)
        found = [cut for one in self._found(question_of(problem), steps) if (cut := _made(steps, *one)) is not None]
        kept = _kept(text, steps)
        return [piece for cut in found for piece in _spared(cut, kept)]

    def _found(self, question: str, steps: Sequence[Step]) -> Iterator[tuple[int, int, str, str]]:
        answers = stated(steps)
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
    while first < end and TAG.fullmatch(steps[first].text.strip()):
        first += 1
    return Cut(steps[first].start, steps[end - 1].end, reason, evidence, guess=True) if first < end else None


def _kept(text: str, steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Stretches that no cut may touch: tags, the last answer, and the last paragraph where nothing follows it."""
    answers = stated(steps)
    kept = [(step.start, step.end) for step in steps if TAG.fullmatch(step.text.strip())]
    kept += [(steps[one.step].start, steps[one.step].end) for one in answers[-1:]]
    if steps and not text[steps[-1].end :].strip():
        kept.append((_last_paragraph(steps), steps[-1].end))
    return kept


def _last_paragraph(steps: Sequence[Step]) -> int:
    at = len(steps) - 1
    while at > 0 and not steps[at - 1].text.endswith("\n\n"):
        at -= 1
    return steps[at if at > 0 else len(steps) - 1].start


def _spared(cut: Cut, kept: Sequence[tuple[int, int]]) -> list[Cut]:
    """What of a cut touches nothing that is kept: all of it, or nothing where it would come to pieces."""
    return [] if any(start < cut.end and cut.start < end for start, end in kept) else [cut]
