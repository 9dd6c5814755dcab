"""The small verifiers on generated references, on wrong answers, and on anything at all."""

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.base import Finding, Verifier
from factory.verifiers.choice import ChoiceVerifier
from factory.verifiers.exact import ExactVerifier
from factory.verifiers.format import FormatVerifier
from factory.verifiers.game24 import Game24Verifier
from factory.verifiers.grid import GridVerifier

CHECKS: list[tuple[Verifier, str | None, Mapping[str, Any]]] = [
    (Game24Verifier(), "4 * 6", {"numbers": [4, 6]}),
    (ChoiceVerifier(), "B", {}),
    (ChoiceVerifier(), "8", {"choices": 26}),
    (ChoiceVerifier(), "C", {"options": ["yes", "no", "A and B", "3"]}),
    (GridVerifier(), "[[1, 2], [3, 4]]", {}),
    (GridVerifier(), "[[[1]], [[2]]]", {"multiple": True}),
    *((ExactVerifier(), "Ab c.", {"extract": e}) for e in ("whole", "boxed", "last_line", "answer_tag")),
    (
        ExactVerifier(),
        "x",
        {"unicode": "NFKC", "case": "fold", "punctuation": "strip", "space": "keep", "any_of": ["y"]},
    ),
    (FormatVerifier(), None, {"json": True, "think": "required", "must_not_contain": ["]"]}),
    (FormatVerifier(), None, {"regex": r"\w+ (\d|a)+", "match": "search", "think": "forbidden", "max_characters": 50}),
]

MARKS = st.sampled_from(["<think>", "</think>", "\\boxed{", "\\frac{", "\\text{", "<answer>", "</answer>", "```", "**"])
WORDS = st.sampled_from(
    ["answer", "Answer:", "is", "the", "option", "or", "yes", "Output:", "Ab c.", "1 2", "3 4", "24"]
)
SIGNS = st.sampled_from('[]{}(),*×=/-."46ABCIa\n \u0301\ud800\u2028')
NEARLY = st.lists(st.one_of(MARKS, WORDS, SIGNS), max_size=40)
TEXTS = st.one_of(st.text(), NEARLY.map("".join), NEARLY.map(" ".join))

grids = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=1, max_size=6)
)
NO_MARKS = st.characters(exclude_characters="<")
# What stands for itself: no marks of thinking, boxes or tags, and one line.
PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "M"), exclude_characters="<>{}\\"))


def judged(verifier: Verifier, reference: str | None, params: Mapping[str, Any], attempt: Attempt) -> Finding:
    """Without the boundary that would hide an exception."""
    (found,) = verifier.judge(Problem("00", (), reference, (), "test"), params, attempt)
    assert found.aspect is Aspect.ANSWER
    assert len(found.evidence.splitlines()) == 1
    assert len(found.evidence) < 300
    return found


def sampled(text: str) -> Attempt:
    return Attempt((Span(text, Origin.SAMPLED),))


@pytest.mark.parametrize(("verifier", "reference", "params"), CHECKS)
@given(text=TEXTS)
def test_no_text_raises(verifier: Verifier, reference: str | None, params: Mapping[str, Any], text: str) -> None:
    found = judged(verifier, reference, params, sampled(text))
    assert found.outcome in (Outcome.PASS, Outcome.FAIL)
    if found.outcome is Outcome.PASS:
        assert found.extracted


@pytest.mark.parametrize(("verifier", "reference", "params"), CHECKS)
def test_a_reference_passes_and_nothing_does_not(
    verifier: Verifier, reference: str | None, params: Mapping[str, Any]
) -> None:
    verifier.validate(params)
    attempt = verifier.as_attempt(reference or "anything")
    assert all(span.origin is Origin.INJECTED for span in attempt.spans)
    assert judged(verifier, reference, params, attempt).outcome is Outcome.PASS
    assert judged(verifier, reference, params, verifier.stub(params)).outcome is Outcome.FAIL


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    """Of numbers that are not zero and have no sign, so that a division by zero is rare."""
    if depth == 0 or draw(st.booleans()):
        return str(draw(st.integers(1, 13)))
    left, right = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    return f"({left} {draw(st.sampled_from('+-*/'))} {right})"


def played(expression: str) -> tuple[list[int], Fraction]:
    """What an expression uses and gives, by Python's own arithmetic."""
    numbers = [int(number) for number in re.findall("[0-9]+", expression)]
    try:
        value = eval(re.sub("([0-9]+)", r"F(\1)", expression), {"F": Fraction, "__builtins__": {}})  # noqa: S307
    except ZeroDivisionError:
        value = Fraction(1, 2)
    return numbers, value


@given(expressions(), st.integers(-3, 3), st.data())
def test_game24_passes_what_plain_arithmetic_does(expression: str, off: int, data: st.DataObject) -> None:
    numbers, value = played(expression)
    assume(value.denominator == 1)
    target = int(value)
    given_numbers = data.draw(st.permutations(numbers))
    verifier = Game24Verifier()
    for text in (f"{expression} = {target}", expression, f"\\boxed{{{expression.replace('*', '×')}}}"):
        params = {"numbers": given_numbers, "target": target + off}
        passed = judged(verifier, None, params, verifier.as_attempt(text)).outcome is Outcome.PASS
        assert passed == (off == 0)
    for other in (numbers[1:], [*numbers, 1], [numbers[0] + 1, *numbers[1:]]):
        params = {"numbers": other or [99], "target": target}
        assert judged(verifier, None, params, verifier.as_attempt(expression)).outcome is Outcome.FAIL


@given(st.integers(2, 26), st.data())
def test_choice_passes_its_own_letter_only(number: int, data: st.DataObject) -> None:
    right, other = (data.draw(st.integers(0, number - 1)) for _ in range(2))
    verifier, params = ChoiceVerifier(), {"choices": number}
    letter = chr(ord("A") + other)
    for reference in (str(right), chr(ord("A") + right)):
        for attempt in (verifier.as_attempt(str(other)), verifier.as_attempt(letter), sampled(f"It is **{letter}**.")):
            passed = judged(verifier, reference, params, attempt).outcome is Outcome.PASS
            assert passed == (right == other)


@given(grids, grids, st.data())
def test_grid_passes_the_same_grid_only(grid: list[list[int]], other: list[list[int]], data: st.DataObject) -> None:
    verifier = GridVerifier()
    reference = json.dumps(grid)
    rows = "\n".join(" ".join(map(str, row)) for row in grid)
    for text in (reference, json.dumps(grid, indent=2), f"so:\n```\n{rows}\n```", f"so\nOutput:\n{rows}"):
        assert judged(verifier, reference, {}, sampled(text)).outcome is Outcome.PASS
        passed = judged(verifier, json.dumps(other), {}, sampled(text)).outcome is Outcome.PASS
        assert passed == (grid == other)
    row = data.draw(st.integers(0, len(grid) - 1))
    grid[row][data.draw(st.integers(0, len(grid[0]) - 1))] += 1
    changed = judged(verifier, reference, {}, verifier.as_attempt(json.dumps(grid)))
    assert (changed.outcome, changed.evidence.partition(" of ")[0]) == (Outcome.FAIL, "1")


EXACT = st.fixed_dictionaries(
    {
        "extract": st.sampled_from(["whole", "boxed", "last_line", "answer_tag"]),
        "unicode": st.sampled_from(["NFC", "NFKC"]),
        "case": st.sampled_from(["keep", "fold"]),
        "punctuation": st.sampled_from(["keep", "strip"]),
        "space": st.just("collapse"),
    }
)


@given(PLAIN, PLAIN, EXACT)
def test_exact_passes_the_same_text_only(word: str, other: str, params: dict[str, str]) -> None:
    verifier = ExactVerifier()
    reference = f"x{word}y"
    assert judged(verifier, reference, params, verifier.as_attempt(reference)).outcome is Outcome.PASS
    for wrong in (f"{reference}{other}z", f"q{other}{reference}"):
        assert judged(verifier, reference, params, verifier.as_attempt(wrong)).outcome is Outcome.FAIL


@given(st.text(NO_MARKS, min_size=1, max_size=30), st.integers(0, 30))
def test_format_counts_as_python_does(text: str, limit: int) -> None:
    assume(text.strip())
    found = judged(FormatVerifier(), None, {"max_characters": limit}, sampled(f"<think>{text}</think>{text}"))
    assert (found.outcome is Outcome.PASS) == (len(text.strip()) <= limit)


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text(NO_MARKS)), st.lists))
def test_format_takes_all_json_and_no_more(value: object) -> None:
    written = json.dumps(value)
    assert judged(FormatVerifier(), None, {"json": True}, sampled(written)).outcome is Outcome.PASS
    assert judged(FormatVerifier(), None, {"json": True}, sampled(f"{written} ]")).outcome is Outcome.FAIL
