r"""A chain of thought in steps, without loss: the texts of the steps, joined, are the text.

A step is a sentence, or a line where lines are short: an item of a list, a line of a puzzle or of a derivation. Blank
lines belong to the step before them. Nothing is split inside of an atom: a fenced block of code, `\[...\]`, `$$...$$`,
`\(...\)`, an environment from `\begin` to `\end`. What opens and is not closed is no atom, but a fence, which then
lasts to the end. Tags of thinking are steps of their own.

Time is near linear in the length of the text, whatever stands in it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

WRAPPED = 60
"""Characters of a line from which on the next line may go on with its sentence."""

TAG = re.compile(r"</?think(?:ing)?>|<\|(?:begin|end)_of_(?:thought|solution)\|>|</?answer>")

_MARK = re.compile(
    r"^[ \t]{0,12}(?P<fence>```|~~~)|(?P<square>(?<!\\)\\\[)|(?P<round>(?<!\\)\\\()"
    r"|(?P<dollars>\$\$)|(?P<closed>(?<!\\)\\[\])])"
    r"|\\(?P<side>begin|end)\{(?P<name>[A-Za-z]{1,20}\*?)\}",
    re.MULTILINE,
)
_LINES = re.compile(r"\n(?:[ \t]*\n)*")
_SENTENCE = re.compile(r"[.!?…][\"')\]*_”]{0,3}[ \t]+(?=[\"'(\[*_“]{0,3}[A-Z\\$✓])")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Za-z]|\d{1,3}|Dr|Mr|Mrs|Ms|St|vs|cf|Fig|Eq|No|e\.g|i\.e|etc|approx)\.$")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a text."""

    start: int
    """Offset in characters into the whole text."""
    end: int
    """Offset of the first character of the next step."""
    text: str


def steps_of(text: str, start: int = 0, end: int | None = None) -> list[Step]:
    """The steps of `text[start:end]`, in order and touching."""
    end = len(text) if end is None else end
    places = [start, *_breaks(text, start, end), end]
    return [Step(first, last, text[first:last]) for first, last in pairwise(places) if first < last]


def _breaks(text: str, start: int, end: int) -> list[int]:
    """Offsets strictly inside at which a step begins, in order."""
    atoms = list(_atoms(text, start, end))
    opened = [first for first, _ in atoms]
    found = {*_line_breaks(text, start, end), *_sentence_breaks(text, start, end)}
    free = {place for place in found if not _inside(place, atoms, opened)}
    free |= {place for tag in TAG.finditer(text, start, end) for place in tag.span()}
    return sorted(place for place in free if start < place < end)


def _inside(place: int, atoms: list[tuple[int, int]], opened: list[int]) -> bool:
    at = bisect_right(opened, place) - 1
    return at >= 0 and atoms[at][0] < place < atoms[at][1]


def _line_breaks(text: str, start: int, end: int) -> Iterator[int]:
    last = start
    for line in _LINES.finditer(text, start, end):
        if not _goes_on(text, last, line):
            yield line.end()
        last = line.end()


def _goes_on(text: str, line_start: int, newline: re.Match[str]) -> bool:
    """Whether the sentence of a long line goes on in the next one."""
    long = newline.start() - line_start >= WRAPPED and len(newline[0]) == 1
    return long and text[newline.end() : newline.end() + 1].islower() and text[newline.start() - 1] not in ".!?:;"


def _sentence_breaks(text: str, start: int, end: int) -> Iterator[int]:
    for mark in _SENTENCE.finditer(text, start, end):
        if not _ABBREVIATION.search(text[max(start, mark.start() - 8) : mark.start() + 1]):
            yield mark.end()


def _atoms(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Stretches that stay whole, in order and disjoint."""
    marks = list(_MARK.finditer(text, start, end))
    closers = _closers(marks)
    done = start
    for mark in marks:
        key = _closed_by(mark)
        if key is None or mark.start() < done:
            continue
        places = closers.get(key, [])
        at = bisect_right(places, mark.end())
        if at < len(places) or mark["fence"]:
            done = places[at] if at < len(places) else end
            yield mark.start(), done


def _closers(marks: list[re.Match[str]]) -> dict[str, list[int]]:
    """Where each kind of atom can end: offsets behind its closing marks."""
    places: dict[str, list[int]] = {}
    for mark in marks:
        key = mark["fence"] or mark["dollars"] or mark["closed"] or (mark["name"] if mark["side"] == "end" else None)
        if key is not None:
            places.setdefault(key, []).append(mark.end())
    return places


def _closed_by(mark: re.Match[str]) -> str | None:
    """The key of the mark that closes what this one opens; None where it opens nothing."""
    if mark["square"] or mark["round"]:
        return "\\]" if mark["square"] else "\\)"
    return mark["fence"] or mark["dollars"] or (mark["name"] if mark["side"] == "begin" else None)
