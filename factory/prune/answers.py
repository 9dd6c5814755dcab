r"""Where a chain says its answer, and what of a completion is thinking.

An answer is said in a `\boxed{}`, behind "answer is" or "answer:", or in `<answer>` tags. Two are the same where their
numbers are, in order, or, without numbers, their letters. This is for finding dead ends only: what is right is decided
by verifiers, and nothing here is shared with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.prune.steps import TAG, Step

_BOX = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]{0,200}\}){0,200}\}){0,400})\}")
_CUE = re.compile(
    r"(?:\b(?:answer|result|solution)\b(?:\*\*)?(?: to [^.:\n]{1,60}| of [^.:\n]{1,60})?"
    r"\s*(?:is|:|=|(?:should|must|would|will) be)|^A:)"
    r"\s*(.{1,300})",
    re.IGNORECASE,
)
_TAGGED = re.compile(r"<answer>(.{0,2000}?)</answer>", re.DOTALL)
_RESULT = re.compile(r"(?:[=≈≡]|\\equiv|\b(?:is|are|gives|get|equals|be))(?=((?:[^=≈.\n,;]|[.,]\d){1,80}))")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_OPENED = re.compile(r"<think(?:ing)?>|<\|begin_of_thought\|>")
_CLOSED = re.compile(r"</think(?:ing)?>|<\|end_of_thought\|>")


@dataclass(frozen=True, slots=True)
class Stated:
    """An answer that a chain says."""

    step: int
    """Index of the step that says it."""
    value: tuple[str, ...]
    """What it comes down to; comparable."""


def thinking(text: str) -> tuple[int, int]:
    """Offsets of the last thinking; where none is closed, of all behind the last opening."""
    closed = list(_CLOSED.finditer(text))
    end = closed[-1].start() if closed else len(text)
    opened = [mark.end() for mark in _OPENED.finditer(text, 0, end)]
    return (opened[-1] if opened else 0), end


def stated(steps: Sequence[Step]) -> list[Stated]:
    """Every answer that is said, in order."""
    tagged = {at + 1 for at, step in enumerate(steps) if step.text.strip() == "<answer>"}
    found = ((at, said(step.text) or (value_of(step.text) if at in tagged else ())) for at, step in enumerate(steps))
    return [Stated(at, value) for at, value in found if value]


def said(text: str) -> tuple[str, ...]:
    """The answer that a text says last; empty where it says none."""
    if boxes := _BOX.findall(text):
        return value_of(boxes[-1])
    match = _TAGGED.search(text) or _CUE.search(text)
    return value_of(match[1]) if match else ()


def reached(steps: Sequence[Step], value: tuple[str, ...]) -> Iterator[int]:
    """Steps that come to a value without saying that it is the answer: `= 12`, `gives 12`, `is 12`; in order.

    Only a value with numbers can be found so.
    """
    if value and value[0][0].isdigit():
        for at, step in enumerate(steps):
            if any(value_of(match[1]) == value for match in _RESULT.finditer(step.text)):
                yield at


def value_of(answer: str) -> tuple[str, ...]:
    """An answer as its numbers, or as its letters where it has none."""
    numbers = tuple(number.replace(",", "") for number in _NUMBER.findall(answer))
    return numbers or tuple(re.findall(r"[a-z]+", answer.lower()))


def is_answer(step: Step) -> bool:
    """Whether a step does nothing but say an answer, or is a tag."""
    text = TAG.sub("", step.text).strip()
    return not text or (bool(said(text)) and len(text) < 160) or bool(_HEADING.fullmatch(text))


_HEADING = re.compile(r"[*#\s]*(?:final answer|answer|solution)[*:\s]*", re.IGNORECASE)
