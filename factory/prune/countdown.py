"""Cuts the abandoned branches out of a Countdown chain: what lies between a state and the return to it.

    try 12 + 25 = 37 left 3 7 37
    ...
    back 3 7 12 25          everything after the line that reached 3 7 12 25, this line included, goes

It reads lines and states but does no arithmetic, and shares no code with the verifier, so that neither can hide a
fault of the other. Only the last thinking of a completion is read: it is the one that is verified again. A line that
it cannot read means no cuts at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.prune.base import ABANDONED, Cut
from factory.types import Problem

TRY = re.compile(r"try [0-9]+ [-+*/] [0-9]+ = [0-9]+ left ([0-9]+(?: [0-9]+)*)")
BACK = re.compile(r"back ([0-9]+(?: [0-9]+)*)")
OTHER = frozenset({"dead", "done", "wait", "stop"})


class CountdownPruner:
    """Removes abandoned attempts."""

    name = "countdown"
    version = "1"

    def cuts(self, problem: Problem, text: str) -> list[Cut]:
        """Everything after the line that reached a state, up to and including the last line that went back to it."""
        return _abandoned(moves(problem, text))


@dataclass(frozen=True, slots=True)
class Move:
    """A line of a chain that was replayed."""

    line: str
    """Without its line end."""
    start: int
    """Offset in characters into the completion."""
    end: int
    """Offset of what follows its line end."""
    depth: int
    """How many tries lie between the first state and the one that the chain is at behind this line."""


def moves(problem: Problem, text: str) -> list[Move]:
    """The lines of the last thinking; none where one cannot be read, or goes back to where the path does not lead."""
    start_state, span = _start_state(problem), _thinking(text)
    if start_state is None or span is None:
        return []
    path, found = [start_state], list[Move]()
    for line, start, end in _lines(text, *span):
        if not _follows(path, line):
            return []
        found.append(Move(line, start, end, len(path) - 1))
    return found


def _follows(path: list[str], line: str) -> bool:
    """Whether a line can be read; the path is then what it leads to."""
    if tried := TRY.fullmatch(line):
        path.append(tried[1])
        return True
    if back := BACK.fullmatch(line):
        depth = next((i for i, state in enumerate(path[:-1]) if state == back[1]), None)
        if depth is not None:
            del path[depth + 1 :]
        return depth is not None
    return line in OTHER


def _start_state(problem: Problem) -> str | None:
    """The given numbers as a chain would write them; None for a problem that is not this game."""
    params: Mapping[str, Any] = next((c.params for c in problem.checks if c.verifier == "countdown"), {})
    numbers = params.get("numbers")
    if not isinstance(numbers, list | tuple) or not all(isinstance(number, int) for number in numbers):
        return None
    return " ".join(map(str, sorted(numbers)))


def _thinking(text: str) -> tuple[int, int] | None:
    """Offsets of the lines of the last thinking; None where it is not closed or was never opened.

    A chat template may have opened it in the prompt, so that it begins with the text.
    """
    end = text.rfind("</think>")
    if end < 0 or "<think>" in text[end:]:
        return None
    opened = text.rfind("<think>\n", 0, end)
    return (opened + len("<think>\n") if opened >= 0 else 0), end


def _abandoned(chain: Sequence[Move]) -> list[Cut]:
    """Cuts in order and disjoint."""
    ends = [move.start for move in chain[:1]]
    cuts: list[Cut] = []
    for move in chain:
        if TRY.fullmatch(move.line):
            ends.append(move.end)
        elif BACK.fullmatch(move.line):
            del ends[move.depth + 1 :]
            _add(cuts, Cut(ends[-1], move.end, ABANDONED))
    return cuts


def _lines(text: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Lines without their line ends, each with its offset, and the offset of what follows it."""
    while start < end:
        newline = text.find("\n", start, end)
        line_end = end if newline < 0 else newline + 1
        yield text[start:line_end].removesuffix("\n"), start, line_end
        start = line_end


def _add(cuts: list[Cut], cut: Cut) -> None:
    """A later return to the same state, or to an earlier one, takes the cuts inside it along."""
    while cuts and cuts[-1].start >= cut.start:
        cuts.pop()
    cuts.append(cut)
