"""Form, not rightness: does the answer look as it was asked to?

Parameters of a check, of which at least one must be given; all that are given must hold:

- `think`: `required`: one closed `<think>...</think>` stands before the answer and nothing before it (`<think>` itself
  may be missing, since a chat template may have opened the thinking in the prompt); `forbidden`: neither mark is there.
- `min_characters`, `max_characters`: how long the answer is.
- `must_contain`, `must_not_contain`: texts that all, or none, are in the answer, letter for letter.
- `json` (true): the answer is one JSON value and nothing else, at most 100 deep.
- `regex`: a pattern of the package `regex` (Python's syntax), with `match`: `full` (the default), the pattern is the
  whole answer, or `search`, it is found in it.

The answer is what follows the last `</think>`, or the whole text where there is no thinking, without white space at its
ends. FAIL: no answer, or the first of the rules above that is broken. UNKNOWN: a pattern that took too long on this
answer, or an answer too long to try one on, since that says nothing about the answer.

A reference has no form of its own: an attempt that no model wrote passes, so that a problem may have this check beside
the one that judges its answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NoReturn

import regex  # type: ignore[import-untyped] # it ships none
from pydantic import Field, TypeAdapter

from factory.errors import ConfigError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.answers import CLOSE, MAX_SHOWN, OPEN, after_thinking, is_reference, shown
from factory.verifiers.base import Finding
from factory.verifiers.params import Params

MAX_SECONDS = 1.0
"""Processor time that a pattern may take on an answer."""
MAX_SEARCHED = 1_000_000
"""Characters of an answer on which a pattern is tried."""
MAX_DEPTH = 100
"""Arrays and objects inside each other in a JSON value."""

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]


class FormatParams(Params):
    """What is asked of the form."""

    think: Literal["required", "forbidden"] | None = None
    min_characters: Count | None = None
    max_characters: Count | None = None
    must_contain: list[Text] = Field(default=[])
    must_not_contain: list[Text] = Field(default=[])
    json_: bool = Field(default=False, alias="json")
    regex: Text | None = None
    match: Literal["full", "search"] = "full"


FORMAT = TypeAdapter(FormatParams)
KNOWN = ["json" if name == "json_" else name for name in FormatParams.model_fields]


class TooLong(Exception):
    """A pattern that came to no end; the message says at what."""


class FormatVerifier:
    """Judges how answers are written."""

    name = "format"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown, malformed or without effect."""
        _checked(params)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:  # noqa: ARG002
        """One finding: the first rule that is broken, or that all hold."""
        check = _checked(params)
        answer = after_thinking(attempt.text).strip()
        try:
            fault = None if is_reference(attempt) else _fault(check, attempt.text, answer)
        except TooLong as trouble:
            return [Finding(Aspect.ANSWER, Outcome.UNKNOWN, answer[:MAX_SHOWN], str(trouble))]
        outcome = Outcome.FAIL if fault else Outcome.PASS
        praise = (
            "a reference, whose form is not judged" if is_reference(attempt) else f"holds: {', '.join(_given(params))}"
        )
        return [Finding(Aspect.ANSWER, outcome, answer[:MAX_SHOWN] or None, fault or praise)]

    def as_attempt(self, reference: str) -> Attempt:
        """The reference alone. No model sampled it, by which `judge` knows not to judge its form."""
        return Attempt((Span(reference, Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())


def _given(params: Mapping[str, Any]) -> list[str]:
    return [key for key in KNOWN if key in params]


def _checked(params: Mapping[str, Any]) -> FormatParams:
    check = parameters.read("format", FORMAT, params, KNOWN)
    rules = [check.think, check.min_characters, check.max_characters, check.regex]
    if all(rule is None for rule in rules) and not (check.must_contain or check.must_not_contain or check.json_):
        raise ConfigError(f"format: no rule is given; there are: {', '.join(KNOWN)}")
    if "match" in params and check.regex is None:
        raise ConfigError("format: match: has no effect without 'regex'")
    if check.max_characters is not None and (check.min_characters or 0) > check.max_characters:
        raise ConfigError("format: min_characters: is above 'max_characters'")
    if check.regex is not None:
        _compiled(check.regex)
    return check


def _compiled(pattern: str) -> regex.Pattern[str]:
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"format: regex: {pattern[:80]!r} is no pattern: {error}") from None


# --- the rules


def _fault(check: FormatParams, text: str, answer: str) -> str | None:
    """The first rule that is broken. Raises TooLong."""
    if fault := _think_fault(check, text):
        return fault
    if not answer:
        return "no answer"
    return next(_faults(check, answer), None)


def _think_fault(check: FormatParams, text: str) -> str | None:
    opened, closed = text.count(OPEN), text.count(CLOSE)
    if check.think == "forbidden":
        return "think: there is thinking where none may be" if opened or closed else None
    if check.think != "required":
        return None
    if closed != 1 or opened > 1:
        return f"think: {opened} {OPEN} and {closed} {CLOSE}, where there must be one thinking"
    if opened and not text.lstrip().startswith(OPEN):
        return f"think: the text does not begin with {OPEN}"
    return None


def _faults(check: FormatParams, answer: str) -> Iterator[str]:
    if check.min_characters is not None and len(answer) < check.min_characters:
        yield f"min_characters: {len(answer)}, where there must be {check.min_characters}"
    if check.max_characters is not None and len(answer) > check.max_characters:
        yield f"max_characters: {len(answer)}, where there may be {check.max_characters}"
    yield from (f"must_contain: {shown(text)} is not there" for text in check.must_contain if text not in answer)
    yield from (f"must_not_contain: {shown(text)} is there" for text in check.must_not_contain if text in answer)
    if check.json_ and (fault := _json_fault(answer)):
        yield f"json: {fault}"
    if check.regex is not None and not _matches(check.regex, check.match, answer):
        yield f"regex: {shown(check.regex)} is not {'the whole answer' if check.match == 'full' else 'in the answer'}"


def _matches(pattern: str, how: str, answer: str) -> bool:
    if len(answer) > MAX_SEARCHED:
        raise TooLong(f"regex: the answer has {len(answer)} characters, and none of more than {MAX_SEARCHED} is tried")
    compiled = _compiled(pattern)
    match = compiled.fullmatch if how == "full" else compiled.search
    try:
        return match(answer, timeout=MAX_SECONDS) is not None
    except TimeoutError:
        raise TooLong(f"regex: {shown(pattern)} took more than {MAX_SECONDS:g} s") from None


def _json_fault(answer: str) -> str | None:
    if _depth(answer) > MAX_DEPTH:
        return f"more than {MAX_DEPTH} deep"
    try:
        # Numbers are read as text: what is judged is their form, and Python refuses integers of thousands of digits.
        json.loads(answer, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except ValueError as error:
        return f"no JSON value: {error}"
    return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is none")


STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def _depth(answer: str) -> int:
    """How deep brackets stand inside each other, outside of strings."""
    depth = deepest = 0
    for character in STRING.sub("", answer):
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    return deepest
