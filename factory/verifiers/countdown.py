"""Countdown: is the answer an expression for the target, and does the chain of thought really lead to it?

Parameters of a check: `numbers` (whole numbers, none negative), `target` (a whole number), `use`: `all` (each number
exactly once, the default) or `any` (each at most once), `chain`: `replay` (the default) or `none`, for models that do
not think in the lines below, so that their chains are not judged at all.

ANSWER. It is the line `answer EXPRESSION` after the last `</think>`, or in the whole text where there is no thinking.
Whole numbers, + - * / (also × ÷ −) and parentheses are read into exact fractions; nothing else is. No answer, two
answers, an unreadable one, a division by zero: FAIL, since these are the model's faults. Limits on length and depth
make hostile text a quick FAIL.

CHAIN. The last thinking is replayed line by line from the given numbers:

    try A op B = C left S   A and B stand in the state, C is exact, S is the new state in ascending order
    dead                    the present state is given up: it is not the target, and no `try` follows before a `back`
    back S                  S is an earlier state of the current path, which is cut there
    done                    the target is the one number left (with `any`: it is among those left)
    wait                    changes nothing
    stop                    changes nothing, and nothing follows it

PASS means that every line is true, the chain ends with `done`, and it supports the answer: the operations of its final
path are those of the answer, operand for operand (a + b is b + a, a * b is b * a; with `any` the path may have more).
`1 + 2 + 3` is read from the left, so it is supported by a chain that adds 1 and 2 first. A chain that `stop` cuts short
of its `done` supports nothing: FAIL, even if the answer is right. No thinking at all: UNKNOWN, there is no chain to
judge. Line numbers in the evidence count from the first line of the thinking.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

from factory.errors import ConfigError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.base import Finding
from factory.verifiers.expressions import (
    MAX_DIGITS,
    MAX_LENGTH,
    Expression,
    Operation,
    Unreadable,
    computed,
    misuse,
    operation,
)

PARAMS = ("numbers", "target", "use", "chain")
USES = ("all", "any")
CHAINS = ("replay", "none")

OPEN, CLOSE, ANSWER = "<think>", "</think>", "answer "
WORDS = ("dead", "done", "wait", "stop")
"""Lines of one word."""
NUMBER = rf"(?:0|[1-9][0-9]{{0,{MAX_DIGITS - 1}}})"
TRY = re.compile(rf"try ({NUMBER}) ([-+*/]) ({NUMBER}) = ({NUMBER}) left ({NUMBER}(?: {NUMBER})*)")
BACK = re.compile(rf"back ({NUMBER}(?: {NUMBER})*)")

State = tuple[int, ...]
"""Numbers still to be combined, ascending."""


class CountdownVerifier:
    """Judges answers and chains of the Countdown game."""

    name = "countdown"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER, Aspect.CHAIN)
    costly = False

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        _game(params)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:  # noqa: ARG002
        """What the answer is worth, then, unless chains are not judged, whether the chain is sound and supports it."""
        game = _game(params)
        thinking, after = _split(attempt.text)
        answer = _answer(game, after)
        outcome = Outcome.FAIL if answer.fault else Outcome.PASS
        found = Finding(Aspect.ANSWER, outcome, answer.text, answer.fault or "equals the target")
        return [found, _chain_finding(game, thinking, answer)] if game.replay else [found]

    def flaw(self, params: Mapping[str, Any], attempt: Attempt) -> str | None:
        """The first whole line of an unfinished chain that is not right; also one that ends without `done`."""
        game = _game(params)
        return _fault_so_far(_Replay(game), attempt.text) if game.replay else None

    def as_attempt(self, reference: str) -> Attempt:
        """The answer line alone. Its origin is INJECTED: no model sampled it, so it can never be trained on."""
        return Attempt((Span(f"{ANSWER}{reference}", Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())


# --- parameters


@dataclass(frozen=True, slots=True)
class _Game:
    """The parameters of a check, checked."""

    numbers: State
    target: int
    use_all: bool
    replay: bool


def _game(params: Mapping[str, Any]) -> _Game:
    for key in params:
        if key not in PARAMS:
            raise ConfigError(f"countdown: unknown parameter {key!r}; did you mean {_nearest(key)!r}?")
    numbers, target, use = params.get("numbers"), params.get("target"), params.get("use", "all")
    if not isinstance(numbers, list | tuple) or not numbers or not all(_is_int(n) and n >= 0 for n in numbers):
        raise ConfigError(f"countdown: 'numbers' must be a list of whole numbers, none negative, not {numbers!r}")
    if not _is_int(target):
        raise ConfigError(f"countdown: 'target' must be a whole number, not {target!r}")
    if use not in USES:
        raise ConfigError(f"countdown: 'use' must be 'all' or 'any', not {use!r}")
    chain = params.get("chain", "replay")
    if chain not in CHAINS:
        raise ConfigError(f"countdown: 'chain' must be 'replay' or 'none', not {chain!r}")
    return _Game(tuple(sorted(numbers)), int(params["target"]), use == "all", chain == "replay")


def _nearest(key: str) -> str:
    return get_close_matches(key, PARAMS, n=1, cutoff=0.0)[0]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- the parts of an attempt


def _split(text: str) -> tuple[str | None, str]:
    """The last thinking with its marks (None if there is none), and what may hold the answer."""
    before, mark, after = text.rpartition(CLOSE)
    if not mark:
        opened = text.rfind(OPEN)
        return (text[opened:], "") if opened >= 0 else (None, text)
    if OPEN in after:
        return after[after.rfind(OPEN) :], ""
    # What stands on the line of `</think>` is no line of its own.
    after = after.partition("\n")[2]
    opened = before.rfind(OPEN)
    # Where a chat template opened the thinking in the prompt, the attempt begins with its first line.
    return (f"{before[opened:]}{mark}" if opened >= 0 else f"{OPEN}\n{before}{mark}"), after


# --- the answer


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was read of an answer."""

    text: str | None
    """The expression as it stands, shortened; None if there is no answer."""
    operations: Counter[Operation] | None
    """None if it could not be read."""
    fault: str | None
    """Why it is not right."""


def _answer(game: _Game, text: str) -> _Answer:
    found = [line[len(ANSWER) :].strip(" \t\r") for line in text.split("\n") if line.startswith(ANSWER)]
    if not found:
        return _Answer(None, None, "no answer")
    shown = found[-1][:MAX_LENGTH]
    if len(found) > 1:
        return _Answer(shown, None, f"{len(found)} answers where there must be one")
    try:
        expression = Expression(found[0])
    except Unreadable as error:
        return _Answer(shown, None, f"unreadable expression: {error}")
    except ZeroDivisionError:
        return _Answer(shown, None, "division by zero")
    return _Answer(shown, expression.operations, misuse(expression, game.numbers, game.target, use_all=game.use_all))


# --- the chain


def _chain_finding(game: _Game, thinking: str | None, answer: _Answer) -> Finding:
    if thinking is None:
        return Finding(Aspect.CHAIN, Outcome.UNKNOWN, None, "no chain")
    replay = _Replay(game)
    fault = _fault(replay, thinking) or replay.unsupported(answer)
    return Finding(Aspect.CHAIN, Outcome.FAIL if fault else Outcome.PASS, None, fault or "supports the answer")


def _fault(replay: _Replay, thinking: str) -> str | None:
    """The first line of a chain that is not right, with its number; None if all are."""
    lines = thinking.split("\n")
    if lines[0] != OPEN:
        return f"line 0: {OPEN} is not on a line of its own"
    for number, line in enumerate(lines[1:-1], start=1):
        if fault := replay.step(line):
            return f"line {number}: {fault}"
    if lines[-1] != CLOSE:
        return f"line {len(lines) - 1}: no {CLOSE} on a line of its own"
    return None


def _fault_so_far(replay: _Replay, text: str) -> str | None:
    """The same of an attempt's beginning, of which only whole lines are read. An opening mark may be missing: a chat
    template may have put it into the prompt."""
    lines = text.split("\n")[:-1]
    for line in lines[1:] if lines[:1] == [OPEN] else lines:
        if line == CLOSE:
            return None if replay.done else "the chain ends without done"
        if fault := replay.step(line):
            return fault
    return None


@dataclass(slots=True)
class _Replay:
    """Where a chain stands, and how it came there."""

    game: _Game
    path: list[State] = field(default_factory=list)
    """States from the given numbers to the present one."""
    operations: list[Operation] = field(default_factory=list)
    """What led from each state of the path to the next."""
    dead: bool = False
    """Whether the present state was given up."""
    done: bool = False
    """Whether the present state was called done."""
    stopped: bool = False

    def __post_init__(self) -> None:
        self.path.append(self.game.numbers)

    def step(self, line: str) -> str | None:
        """Follow a line, or say what is wrong with it."""
        if self.stopped:
            return "goes on after stop"
        if line in WORDS:
            return self._word(line)
        if back := BACK.fullmatch(line):
            return self._back(back[1])
        if tried := TRY.fullmatch(line):
            return self._try(tried)
        return f"cannot be read: {line[:80]!r}"

    def unsupported(self, answer: _Answer) -> str | None:
        """Why a chain without a wrong line does not lead to the answer."""
        if not self.done:
            return "the chain ends without done"
        if answer.operations is None:
            return "there is no readable answer for the chain to support"
        made = Counter(self.operations)
        supported = answer.operations == made if self.game.use_all else answer.operations <= made
        return None if supported else "the chain reaches the target by other operations than the answer"

    def _word(self, word: str) -> str | None:
        if word == "done" and not self._at_target():
            return f"done at {self._state()}, which is not the target"
        if word == "dead" and self._at_target():
            return "dead at the target"
        self.dead = self.dead or word == "dead"
        self.done = self.done or word == "done"
        self.stopped = word == "stop"
        return None

    def _back(self, state: str) -> str | None:
        depth = next((i for i, past in enumerate(self.path[:-1]) if _written(past) == state), None)
        if depth is None:
            return f"back to {state[:80]}, which is not on the current path"
        del self.path[depth + 1 :], self.operations[depth:]
        self.dead = self.done = False
        return None

    def _try(self, line: re.Match[str]) -> str | None:
        if self.dead:
            return "goes on from a state that it called dead"
        left, right, result = int(line[1]), int(line[3]), int(line[4])
        rest = Counter(self.path[-1])
        rest.subtract((left, right))
        if min(rest.values()) < 0:
            return f"{left} and {right} are not both in {self._state()}"
        if not _is_exact(left, line[2], right, result):
            return f"{left} {line[2]} {right} is not {result}"
        after = tuple(sorted([*rest.elements(), result]))
        if _written(after) != line[5]:
            return f"what is left is {_written(after)}, not {line[5][:80]}"
        self.path.append(after)
        self.operations.append(operation(Fraction(left), line[2], Fraction(right)))
        self.done = False
        return None

    def _at_target(self) -> bool:
        state = self.path[-1]
        return state == (self.game.target,) if self.game.use_all else self.game.target in state

    def _state(self) -> str:
        return _written(self.path[-1])


def _is_exact(left: int, operator: str, right: int, result: int) -> bool:
    if operator == "/" and right == 0:
        return False
    return computed(Fraction(left), operator, Fraction(right)) == result


def _written(state: State) -> str:
    return " ".join(map(str, state))
