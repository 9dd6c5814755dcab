r"""Game of 24: is the answer an expression that makes the target of the given numbers, each used exactly once?

Parameters of a check: `numbers` (whole numbers, none negative, repeated where they are given repeatedly), `target` (a
whole number, 24 by default).

The answer stands after the last `</think>`, or in the whole text where there is no thinking. It is the last `\boxed{}`;
where there is none, what follows the last "answer:" on its line (or on the next one that is not blank), or else the
last "answer is"; where there is neither, the last line that is an expression with an operator.

Whole numbers, + - * / and parentheses are read into exact fractions, also written × ÷ − · \times \cdot \div \frac{a}{b}
and with square brackets; nothing else is, no sign before a number either. `= 24` may follow, and then it must be the
target. Emphasis, dollar signs, a full stop or a check mark around the answer and an `<answer>` tag change nothing.

FAIL: no answer, an unreadable one, a division by zero, a number left out or used too often, another value. Limits on
length and depth make hostile text a quick FAIL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.answers import MAX_SHOWN, after_thinking, last_box, last_match
from factory.verifiers.base import Finding
from factory.verifiers.expressions import MAX_LENGTH, Expression, Unreadable, misuse
from factory.verifiers.params import Params

CUES = (re.compile(r"\banswer(?:\*\*)?(?: is)?:", re.IGNORECASE), re.compile(r"\banswer is\b", re.IGNORECASE))
"""The first one that is in a text decides."""
COMMANDS = {
    **dict.fromkeys(("\\times", "\\cdot", "\\ast"), "*"),
    "\\div": "/",
    **dict.fromkeys(("\\frac", "\\dfrac", "\\tfrac"), "\\frac"),
    **dict.fromkeys(("\\left", "\\right", "\\big", "\\Big", "\\bigl", "\\bigr", "\\displaystyle", "\\quad"), " "),
    **dict.fromkeys(("\\,", "\\;", "\\:", "\\!", "\\ ", "\\(", "\\)", "\\[", "\\]", "$", "<answer>", "</answer>"), " "),
}
"""What stands for a command; for others, themselves, so that they are unreadable."""
COMMAND = re.compile(r"\\(?:[a-zA-Z]+|.)|</?answer>|\$")
SPELLINGS = str.maketrans("[]·⋅", "()**")
OPERATORS = "+-*/×÷−"


class Game24Params(Params):
    """The game."""

    numbers: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    target: int = 24


GAME = TypeAdapter(Game24Params)
KNOWN = list(Game24Params.model_fields)


class Game24Verifier:
    """Judges answers of the Game of 24."""

    name = "game24"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        parameters.read(self.name, GAME, params, KNOWN)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:  # noqa: ARG002
        """One finding: of the expression that was found, and where."""
        game = parameters.read(self.name, GAME, params, KNOWN)
        rule, written = _found(after_thinking(attempt.text))
        if written is None:
            return [Finding(Aspect.ANSWER, Outcome.FAIL, None, rule)]
        fault = _fault(game, written)
        outcome = Outcome.FAIL if fault else Outcome.PASS
        return [Finding(Aspect.ANSWER, outcome, written[:MAX_SHOWN], f"{rule}: {fault or f'equals {game.target}'}")]

    def as_attempt(self, reference: str) -> Attempt:
        """The expression after "Answer:"; no model sampled it."""
        return Attempt((Span(f"Answer: {reference}", Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())


def _found(text: str) -> tuple[str, str | None]:
    """By which rule an answer was found, and the answer; or why there is none."""
    if box := last_box(text):
        if box.content is None:
            return "the last \\boxed is not closed", None
        return "in \\boxed", plain(box.content)
    if (after := _after_cue(text)) is not None:
        return "after 'answer'", after
    line = next(_expressions(text), None)
    return ("on the last line that is an expression", line) if line else ("no answer", None)


def _after_cue(text: str) -> str | None:
    for cue in CUES:
        if last := last_match(cue, text):
            lines = (plain(line) for line in text[last.end() :].split("\n"))
            return next((line for line in lines if line), "")
    return None


def _expressions(text: str) -> Iterator[str]:
    """Lines that are expressions, the last one first."""
    for line in reversed(text.split("\n")):
        written = plain(line)
        expression, _ = _sides(written)
        if any(sign in expression for sign in OPERATORS) and _reads(expression):
            yield written


def _reads(expression: str) -> bool:
    try:
        Expression(expression)
    except Unreadable:
        return False
    except ZeroDivisionError:
        return True
    return True


def _fault(game: Game24Params, written: str) -> str | None:
    expression, says = _sides(written)
    try:
        read = Expression(expression)
    except Unreadable as error:
        return f"unreadable expression: {error}"
    except ZeroDivisionError:
        return "division by zero"
    if fault := misuse(read, game.numbers, game.target, use_all=True):
        return fault
    return None if says in (None, str(game.target)) else f"says that it equals {says[:80]!r}, not {game.target}"


def _sides(written: str) -> tuple[str, str | None]:
    """The expression, and what it is said to equal; None where nothing is said."""
    expression, sign, says = written.partition("=")
    return expression.strip(), says.strip() if sign else None


# --- from the way it is written to plain arithmetic


def plain(written: str) -> str:
    """An expression without emphasis and LaTeX; what is too long to be read stays as it is."""
    if len(written) > MAX_LENGTH:
        return written
    text = COMMAND.sub(lambda found: COMMANDS.get(found[0], found[0]), written)
    return _bare(" ".join(_braces(text).translate(SPELLINGS).split()))


def _bare(text: str) -> str:
    """Without what may stand around it. Stars at the end are emphasis if as many stand at the beginning, and `**` is
    even where its other half stands before the cue: no expression ends with it."""
    text = text.lstrip(" _`").rstrip(" _`.✓✔✅")
    stars = len(text) - len(text.lstrip("*"))
    return text[stars:].removesuffix("*" * (stars or 2)).lstrip(" _`").rstrip(" _`.")


def _braces(text: str) -> str:
    r"""Fractions and groups in parentheses; a `\frac` that is none stays, so that it is unreadable."""
    pieces: list[str] = []
    closing: list[str] = []
    for piece in re.split(r"(\\frac\s*\{|\}\s*\{|[{}])", text):
        if piece.startswith("\\frac"):
            pieces.append("((")
            closing.append(")/(")
        elif piece == "{":
            pieces.append("(")
            closing.append(")")
        elif piece.startswith("}"):
            pieces.append(_closed(piece, closing))
        else:
            pieces.append(piece)
    return "".join(pieces)


def _closed(piece: str, closing: list[str]) -> str:
    """What stands for a brace that closes something, or for one that at once opens something too."""
    closes = closing.pop() if closing else "}"
    if piece == "}":
        # A numerator that no denominator follows.
        return "}" if closes == ")/(" else closes
    closing.append("))" if closes == ")/(" else ")")
    return closes if closes == ")/(" else f"{closes}("
