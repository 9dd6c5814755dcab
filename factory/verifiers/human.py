"""Human: waits for reviewers, whose verdicts come in as files; what nobody has reviewed is UNKNOWN.

Parameters of a check: `agree` (1): how many reviewers must say the same. The outcome is what at least so many of them
say, where fewer than that say the opposite: one opposing review leaves the default open, and with `agree = 2` two
reviewers overrule a third. What one reviewer says twice counts once; reviews without a name are one reviewer's.

A review is a line of JSON:

    {"problem": ID, "attempt": KEY, "outcome": "pass", "reviewer": "anna", "note": "misses the second case"}

`attempt` is `key` of the attempt's text, so a review is of that very text and of no other: of what pruning left of it
somebody decides anew. `outcome` is `pass`, `fail`, or null for what still waits; `reviewer` and `note` may be left out.
`factory review` writes such lines, with what a reviewer must see in `prompt`, `reference`, `text` and `verdicts`, which
are not read again. The order of lines and files does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from factory import ids
from factory.errors import ConfigError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.answers import after_thinking, is_reference
from factory.verifiers.base import Finding
from factory.verifiers.params import Params

SHOWN = ("prompt", "reference", "text", "verdicts")
"""Keys of a line that are for reviewers' eyes."""


class Agreement(Params):
    """The parameters of a check."""

    agree: int = Field(default=1, ge=1)


class Review(Params):
    """What one reviewer says of one attempt."""

    problem: Annotated[str, Field(min_length=1)]
    attempt: Annotated[str, Field(min_length=1)]
    outcome: Literal["pass", "fail"] | None
    reviewer: str = ""
    note: str = ""


AGREEMENT = TypeAdapter(Agreement)
KNOWN = list(Agreement.model_fields)
REVIEW = TypeAdapter(Review)


def key(problem: Problem, attempt: Attempt) -> str:
    """Names an attempt by its problem and its text."""
    return ids.digest([problem.id, attempt.text])[: ids.ID_LENGTH]


def parse(row: object) -> Review:
    """A line of a file of reviews. Raises ConfigError, in one line, for one that is none."""
    if not isinstance(row, Mapping):
        raise ConfigError("a review is a JSON object")
    read = {name: value for name, value in row.items() if name not in SHOWN}
    try:
        return REVIEW.validate_python(read)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        raise ConfigError(f"unknown key {place!r}; there are: {', '.join((*Review.model_fields, *SHOWN))}")
    raise ConfigError(f"{place}: {first['msg']}")


class Reviews:
    """All that was reviewed, by problem and attempt."""

    def __init__(self, reviews: Iterable[Review] = ()) -> None:
        self._found: dict[tuple[str, str], set[Review]] = {}
        for one in reviews:
            if one.outcome is not None:
                self._found.setdefault((one.problem, one.attempt), set()).add(one)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits of what was said; empty where nothing was."""
        said = sorted(_row(one) for found in self._found.values() for one in found)
        return ids.digest(said)[:12] if said else ""

    def of(self, problem: Problem, attempt: Attempt) -> list[Review]:
        """In an order of their own."""
        return sorted(self._found.get((problem.id, key(problem, attempt)), ()), key=_row)


def _row(review: Review) -> list[str]:
    return [review.problem, review.attempt, review.reviewer, str(review.outcome), review.note]


class HumanVerifier:
    """Says what reviewers said."""

    name = "human"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def __init__(self, reviews: Reviews) -> None:
        self._reviews = reviews
        self.version = f"1+{reviews.digest}" if reviews.digest else "1"

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        parameters.read(self.name, AGREEMENT, params, KNOWN)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        """One finding: of the answer, by way of the whole text."""
        agree = parameters.read(self.name, AGREEMENT, params, KNOWN).agree
        if is_reference(attempt):
            return [Finding(Aspect.ANSWER, Outcome.PASS, None, "a reference, which nobody reviews")]
        if not after_thinking(attempt.text).strip():
            return [Finding(Aspect.ANSWER, Outcome.FAIL, None, "no answer")]
        found = self._reviews.of(problem, attempt)
        if not found:
            return [Finding(Aspect.ANSWER, Outcome.UNKNOWN, None, f"{key(problem, attempt)} waits for a review")]
        return [Finding(Aspect.ANSWER, agreed(found, agree), None, _told(found))]

    def as_attempt(self, reference: str) -> Attempt:
        """The reference as it stands."""
        return Attempt((Span(reference, Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer, which nobody reviews."""
        return Attempt(())


def agreed(reviews: Iterable[Review], agree: int) -> Outcome:
    """What at least `agree` reviewers say, and fewer than that deny; else UNKNOWN."""
    voices = Counter(outcome for _, outcome in {(one.reviewer, one.outcome) for one in reviews})
    enough = [outcome for outcome, number in voices.items() if number >= agree and outcome is not None]
    return Outcome(enough[0]) if len(enough) == 1 else Outcome.UNKNOWN


def _told(reviews: Iterable[Review]) -> str:
    said = (f"{one.reviewer or 'somebody'}: {one.outcome}{f' ({one.note})' if one.note else ''}" for one in reviews)
    return " ".join("; ".join(said).split())[:1000]
