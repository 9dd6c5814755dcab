r"""Equality of texts after a stated normalisation: is the answer one of the right texts, and nothing else?

Parameters of a check:

- `extract`, what is compared, of the text after the last `</think>`, or of the whole text where there is no thinking:
  `whole` (the default): all of it, but for white space right after `</think>`; `boxed`: what is in the last `\boxed{}`;
  `last_line`: the last line that is not blank, without white space at its end; `answer_tag`: what is in the last
  `<answer>`.
- `unicode`: `NFC` (the default) or `NFKC`, to which both sides are brought first, and again after folding.
- `case`: `keep` (the default), or `fold`: it does not count.
- `punctuation`: `keep` (the default), or `strip`: quotation marks, backticks and asterisks do not count at both ends,
  and . , ; : ! ? … and their like not at the end. Before and inside the text they count: .5 and -5 are not 5.
- `space`: `collapse` (the default): a run of white space is one space, and none counts at the ends; or `keep`: all of
  it counts.
- `any_of`: further right answers beside the reference.

FAIL: nothing to compare (no box or tag, an open one, nothing left after normalisation), another text, or more than 30
combining marks on one letter, which no right answer has and which take long to bring into order.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from factory.errors import VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.answers import MAX_SHOWN, after_thinking, is_reference, last_box, last_line, last_tagged, shown
from factory.verifiers.base import Finding
from factory.verifiers.params import Params

QUOTES = "\"'`*“”‘’„‚«»‹›「」『』"
ENDS = QUOTES + ".,;:!?…。，、；：！？"

MAX_MARKS = 30
"""Combining marks in a row: the limit of Unicode's own Stream-Safe Text Format."""


class ExactParams(Params):
    """What is compared, and what does not count."""

    extract: Literal["whole", "boxed", "last_line", "answer_tag"] = "whole"
    unicode: Literal["NFC", "NFKC"] = "NFC"
    case: Literal["keep", "fold"] = "keep"
    punctuation: Literal["keep", "strip"] = "keep"
    space: Literal["collapse", "keep"] = "collapse"
    any_of: list[Annotated[str, Field(min_length=1)]] = Field(default=[])


EXACT = TypeAdapter(ExactParams)
KNOWN = list(ExactParams.model_fields)


class ExactVerifier:
    """Judges texts by equality."""

    name = "exact"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        parameters.read(self.name, EXACT, params, KNOWN)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        """One finding: of the text compared. Raises VerifierError where there is nothing to compare with."""
        check = parameters.read(self.name, EXACT, params, KNOWN)
        right = {normalised(check, text): text for text in (*_given(problem), *check.any_of)}
        if not right or None in right or "" in right:
            raise VerifierError("the reference is missing, or the normalisation leaves nothing of a right answer")
        text = _as_extracted(check, attempt.text) if is_reference(attempt) else attempt.text
        found = _extracted(check, text)
        outcome, evidence = _compared(check, right, found)
        return [Finding(Aspect.ANSWER, outcome, None if found is None else found[:MAX_SHOWN], evidence)]

    def as_attempt(self, reference: str) -> Attempt:
        """The text alone. No model sampled it, by which `judge` knows to put it where `extract` looks for it."""
        return Attempt((Span(reference, Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())


def _given(problem: Problem) -> tuple[str, ...]:
    return () if problem.reference is None else (problem.reference,)


def _compared(check: ExactParams, right: Mapping[str | None, str], found: str | None) -> tuple[Outcome, str]:
    if found is None:
        return Outcome.FAIL, f"no answer: nothing to extract as {check.extract}"
    answer = normalised(check, found)
    if answer is None:
        return Outcome.FAIL, f"more than {MAX_MARKS} combining marks in a row"
    if not answer:
        return Outcome.FAIL, "no answer: nothing is left after normalisation"
    if answer in right:
        return Outcome.PASS, f"equals {shown(right[answer])}"
    return Outcome.FAIL, f"{shown(answer)} is not {shown(next(iter(right.values())))}{_or_others(right)}"


def _or_others(right: Mapping[str | None, str]) -> str:
    return f" nor any of {len(right) - 1} others" if len(right) > 1 else ""


# --- what is compared


def _extracted(check: ExactParams, text: str) -> str | None:
    after = after_thinking(text)
    match check.extract:
        case "boxed":
            box = last_box(after)
            return box.content if box else None
        case "last_line":
            return last_line(after) or None
        case "answer_tag":
            return last_tagged(after, "answer")
    return after if len(after) == len(text) else after.lstrip()


def _as_extracted(check: ExactParams, reference: str) -> str:
    """The reference where `extract` finds it, so that a reference which it would not find is refused."""
    match check.extract:
        case "boxed":
            return f"\\boxed{{{reference}}}"
        case "answer_tag":
            return f"<answer>{reference}</answer>"
    return reference


# --- normalisation


def normalised(check: ExactParams, text: str) -> str | None:
    """What is left of a text to compare; None for one that no right answer is like."""
    if _has_many_marks(text):
        return None
    text = unicodedata.normalize(check.unicode, text)
    if check.case == "fold":
        text = unicodedata.normalize(check.unicode, text.casefold())
    if check.space == "collapse":
        text = " ".join(text.split())
    if check.punctuation == "strip":
        around = " " if check.space == "collapse" else ""
        text = text.lstrip(QUOTES + around).rstrip(ENDS + around)
    return text


def _has_many_marks(text: str) -> bool:
    """Whether normalisation could take quadratic time, as it does for a long run of marks out of order."""
    if text.isascii():
        return False
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > MAX_MARKS:
            return True
    return False
