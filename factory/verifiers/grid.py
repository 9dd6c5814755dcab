"""Grids, as in ARC: is the answer the same grid of whole numbers as the reference, in shape and in every cell?

Parameters of a check: `multiple` (false by default): the reference is a list of grids, the outputs of several tests,
and the answer must give all of them in that order. The reference is JSON: a list of rows, each a list of whole numbers;
or with `multiple` a list of such grids.

The answer stands after the last `</think>`, or in the whole text where there is no thinking. It is the last grid there
(with `multiple`: the last ones, as many as the reference has), written in one of these ways:

- lists in a list, `[[1, 2], [3, 4]]`, with commas or spaces between, on any number of lines, in a code fence or not;
- lines of numbers with spaces or commas between, at the beginning of the answer, in a code fence or an `<answer>` tag,
  or after a line that ends with "output" or "answer" ("Output:", "the output grid is:", "Answer 2:"), or on it
  ("Output: 1 2 3"). Such a grid ends with the first line that is another.

FAIL: no grid, too few, more than 30 rows or columns (ARC has none), rows of different lengths, another shape, another
cell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from factory.errors import VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.answers import after_thinking, last_match
from factory.verifiers.base import Finding
from factory.verifiers.params import Params

MAX_SIDE = 30
"""Rows, and columns, of a grid."""

Grid = Sequence[Sequence[int]]

# Possessive, since no part of a grid can be read in two ways: what is none is left after one pass.
_CELL = r"-?\d{1,9}+"
_ROW = rf"\[\s*+{_CELL}(?:[\s,]++{_CELL})*+[\s,]*+\]"
LISTS = re.compile(rf"\[\s*+{_ROW}(?:[\s,]*+{_ROW})*+[\s,]*+\]", re.ASCII)
ROW = re.compile(rf"{_CELL}(?:[\s,]++{_CELL})*+[\s,]*+", re.ASCII)
CELL = re.compile(_CELL, re.ASCII)
WORD = re.compile(
    r"\b(?:output|answer)s?(?: grid| array| matrix)?(?: #?\d{1,2}\b)?(?: is| are|(?: would| will) be)?"
    r"[\s*_]*+(?::[\s*_]*+)?",
    re.IGNORECASE | re.ASCII,
)
TAG = re.compile(r"</?answer>")


class GridParams(Params):
    """What the reference is."""

    multiple: bool = False
    """Whether it is a list of grids."""


GRID = TypeAdapter(GridParams)
KNOWN = list(GridParams.model_fields)
ONE = TypeAdapter(list[list[int]])


class Found(NamedTuple):
    """A grid in a text."""

    place: int
    """Offset of its beginning."""
    rows: Grid


class GridVerifier:
    """Judges grids."""

    name = "grid"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        parameters.read(self.name, GRID, params, KNOWN)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        """One finding: of the grids found. Raises VerifierError for a reference that is none."""
        check = parameters.read(self.name, GRID, params, KNOWN)
        wanted = _reference(problem.reference, multiple=check.multiple)
        found = [one.rows for one in grids(after_thinking(attempt.text))[-len(wanted) :]]
        fault = _fault(wanted, found)
        outcome = Outcome.FAIL if fault else Outcome.PASS
        return [
            Finding(Aspect.ANSWER, outcome, _written(found), fault or f"{_shapes(wanted)}, every cell as it should be")
        ]

    def as_attempt(self, reference: str) -> Attempt:
        """The grid as it is; no model sampled it."""
        return Attempt((Span(reference, Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())


def _reference(reference: str | None, *, multiple: bool) -> list[Grid]:
    try:
        value = json.loads(reference or "")
        wanted: list[Grid] = [ONE.validate_python(grid, strict=True) for grid in (value if multiple else [value])]
    except (ValueError, TypeError, RecursionError) as error:
        raise VerifierError(
            "the reference is no grid" if not multiple else "the reference is no list of grids"
        ) from error
    fault = "it is empty" if not wanted else next((why for grid in wanted if (why := _misshapen(grid))), None)
    if fault:
        raise VerifierError(f"the reference is no grid: {fault}")
    return wanted


def _misshapen(grid: Grid) -> str | None:
    if not grid or not grid[0]:
        return "it is empty"
    if len(grid) > MAX_SIDE or max(map(len, grid)) > MAX_SIDE:
        return f"it is larger than {MAX_SIDE}x{MAX_SIDE}"
    return None if len(set(map(len, grid))) == 1 else "its rows differ in length"


def _fault(wanted: Sequence[Grid], found: Sequence[Grid]) -> str | None:
    if not found:
        return "no answer: there is no grid"
    if len(found) < len(wanted):
        return f"too few grids: {len(found)} of {len(wanted)}"
    faults = (
        (number, _difference(one, other)) for number, (one, other) in enumerate(zip(wanted, found, strict=True), 1)
    )
    number, fault = next(((number, why) for number, why in faults if why), (0, None))
    return f"grid {number}: {fault}" if fault and len(wanted) > 1 else fault


def _difference(wanted: Grid, found: Grid) -> str | None:
    if fault := _misshapen(found):
        return fault
    if _shape(wanted) != _shape(found):
        return f"it is {_shape(found)}, not {_shape(wanted)}"
    pairs = [pair for one, other in zip(wanted, found, strict=True) for pair in zip(one, other, strict=True)]
    differ = sum(one != other for one, other in pairs)
    return f"{differ} of {len(pairs)} cells differ" if differ else None


def _shape(grid: Grid) -> str:
    return f"{len(grid)}x{len(grid[0])}"


def _shapes(grids: Sequence[Grid]) -> str:
    return ", ".join(map(_shape, grids))


def _written(grids: Sequence[Grid]) -> str | None:
    """The grids as JSON; None where there is none, or one that is too large or ragged to be any."""
    if not grids or any(map(_misshapen, grids)):
        return None
    return json.dumps(grids if len(grids) > 1 else grids[0], separators=(",", ":"))


# --- grids in a text


def grids(text: str) -> list[Found]:
    """All grids, in the order in which they stand."""
    text = TAG.sub(lambda tag: f"\n{tag[0]}\n", text)
    return sorted([*_lists(text), *_lines(text)])


def _lists(text: str) -> Iterator[Found]:
    for lists in LISTS.finditer(text):
        yield Found(lists.start(), [_cells(row) for row in lists[0].split("]") if CELL.search(row)])


def _cells(row: str) -> list[int]:
    return [int(cell) for cell in CELL.findall(row)]


def _lines(text: str) -> list[Found]:
    reader, place = _Lines(), 0
    for line in text.split("\n"):
        reader.read(line.strip(), place)
        place += len(line) + 1
    reader.end()
    return reader.found


@dataclass(slots=True)
class _Lines:
    """Reads line after line for grids of lines of numbers."""

    found: list[Found] = field(default_factory=list)
    fenced: bool = False
    """Whether the line stands in a code fence."""
    expecting: bool = True
    """Whether a line of numbers would be a row."""
    rows: list[list[int]] = field(default_factory=list)
    """Of the grid that has not ended."""
    place: int = 0
    """Where `rows` began."""

    def read(self, line: str, place: int) -> None:
        """Add a row, or end the grid and see whether another may begin."""
        if self.expecting and ROW.fullmatch(line):
            self._add(line, place)
            return
        self.end()
        if line.startswith("```") and (self.fenced or "`" not in line[3:]):
            self.fenced = self.expecting = not self.fenced
        elif line:
            row = _after_word(line)
            self.expecting = self.fenced or line == "<answer>" or row is not None
            if row:
                self._add(row, place)

    def end(self) -> None:
        """Where there are rows, they are a grid."""
        if self.rows:
            self.found.append(Found(self.place, self.rows))
            self.rows, self.expecting = [], self.fenced

    def _add(self, line: str, place: int) -> None:
        self.place = self.place if self.rows else place
        self.rows.append(_cells(line))


def _after_word(line: str) -> str | None:
    """The row after a last word "output" or "answer", empty where nothing follows it; None where it is not the last."""
    word = last_match(WORD, line)
    if word is None:
        return None
    rest = line[word.end() :]
    return rest if not rest or (":" in word[0] and ROW.fullmatch(rest)) else None
