"""A chain of thought as the tree of its attempts, to look at: where each begins, what it goes back to, how it ends.

A Countdown chain that can be replayed is: each `try` is a branch below the one whose numbers it takes. Any other text
is read by the rules of `attempts`: its lines are the branches, and what a line went back from by name hangs below it.
The rules can be wrong, and are today's. They decide nothing here: what a transcript lacks stands in its removals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from factory.prune.answers import stated, thinking
from factory.prune.attempts import GivenUp, Line, attempts
from factory.prune.countdown import BACK, TRY, Move, moves
from factory.prune.freetext import question_of
from factory.prune.steps import TAG, Step, steps_of
from factory.types import Problem


@dataclass(frozen=True, slots=True)
class Branch:
    """One attempt of a chain."""

    start: int
    """Offset in characters into the text."""
    end: int
    """Offset of the first character behind it."""
    parent: int | None
    """Index of the branch that it goes on from; None for one that begins at the problem."""
    phrase: str = ""
    """The words, or the sign, that it was seen to begin by; empty where it begins with the chain or was replayed."""
    given_up: str | None = None
    """What in the text says that the chain left it; None where nothing does."""


def branches(problem: Problem, text: str) -> list[Branch]:
    """Parents first, else in the order of the text. Empty where there is no text."""
    if replayed := _replayed(moves(problem, text)):
        return replayed
    steps = steps_of(text, *thinking(text))
    if not steps:
        return []
    return _read(steps, *attempts(question_of(problem), steps, stated(steps)))


def _replayed(chain: Sequence[Move]) -> list[Branch]:
    found: list[Branch] = []
    path: list[int] = []
    for move in chain:
        if TRY.fullmatch(move.line):
            path.append(len(found))
            found.append(Branch(move.start, move.end, path[-2] if len(path) > 1 else None))
            continue
        if found:  # what follows a try belongs to it
            found[-1] = replace(found[-1], end=move.end)
        if BACK.fullmatch(move.line):
            for left in path[move.depth :]:
                found[left] = replace(found[left], given_up=f"{move.line!r} at {move.start}")
            del path[move.depth :]
    return found


def _read(steps: Sequence[Step], lines: Sequence[Line], given_up: Sequence[GivenUp]) -> list[Branch]:
    found: list[Branch] = []
    places: list[int] = []
    """Of each line, among the branches."""
    for line in lines:
        places.append(len(found))
        parent = None if line.parent is None else places[line.parent]
        start, end = steps[line.first].start, steps[line.end - 1].end
        found.append(Branch(start, end, parent, line.phrase, _evidence(steps, line, given_up)))
        found += (
            Branch(steps[one.first].start, steps[one.end - 1].end, places[-1], given_up=one.evidence)
            for one in _inside(steps, line, given_up)
        )
    return found


def _evidence(steps: Sequence[Step], line: Line, given_up: Sequence[GivenUp]) -> str | None:
    """Why a line was given up: by itself, or with all that surrounds it."""
    return line.given_up or next((one.evidence for one in given_up if _covers(steps, one, line)), None)


def _covers(steps: Sequence[Step], one: GivenUp, line: Line) -> bool:
    """Whether nothing of a line but tags and blanks stands outside of what was given up."""
    before = steps[line.first : min(one.first, line.end)]
    return one.end >= line.end and one.first < line.end and all(not TAG.sub("", step.text).strip() for step in before)


def _inside(steps: Sequence[Step], line: Line, given_up: Sequence[GivenUp]) -> Iterator[GivenUp]:
    """What was given up within a line, without the whole of it."""
    within = (one for one in given_up if line.first <= one.first and one.end <= line.end)
    return (one for one in sorted(within, key=lambda one: one.first) if not _covers(steps, one, line))
