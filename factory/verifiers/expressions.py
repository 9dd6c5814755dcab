"""Arithmetic expressions as games take them: read into exact fractions, with what they use and compute.

Whole numbers, + - * / (also × ÷ −) and parentheses are read; nothing else is: no sign before a number, no leading
zero, no power, no decimal point. Limits on length, depth and digits make hostile text a quick `Unreadable`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

MAX_LENGTH = 1000
"""Characters of an expression that are read."""
MAX_DEPTH = 50
"""Parentheses inside parentheses that are followed."""
MAX_DIGITS = 15
"""Digits of a number that is read, in an answer or in a chain."""

SIGNS = str.maketrans("×÷−", "*/-")
TOKEN = re.compile(r"0|[1-9][0-9]*|[-+*/()]")

Operation = tuple[str, Fraction, Fraction]
"""Operator and operands; the smaller operand first where their order does not matter."""


class Unreadable(Exception):
    """An expression that is none; the message says why."""


class Expression:
    """An expression read by recursive descent; its depth is bounded, so is the recursion.

    Raises Unreadable for a text that is none, ZeroDivisionError for one that has no value.
    """

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._place = 0
        self.numbers: list[int] = []
        self.operations: Counter[Operation] = Counter()
        self.value = self._sum(0)
        if self._place < len(self._tokens):
            raise Unreadable(f"unexpected {self._tokens[self._place]!r}")

    def _sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while self._next() in ("+", "-"):
            value = self._apply(value, self._take(), self._product(depth))
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._atom(depth)
        while self._next() in ("*", "/"):
            value = self._apply(value, self._take(), self._atom(depth))
        return value

    def _atom(self, depth: int) -> Fraction:
        token = self._take()
        if token.isdecimal():
            self.numbers.append(int(token))
            return Fraction(int(token))
        if token != "(":
            raise Unreadable(f"unexpected {token!r}")
        if depth == MAX_DEPTH:
            raise Unreadable(f"more than {MAX_DEPTH} parentheses deep")
        value = self._sum(depth + 1)
        if self._take() != ")":
            raise Unreadable("a parenthesis is not closed")
        return value

    def _apply(self, left: Fraction, operator: str, right: Fraction) -> Fraction:
        self.operations[operation(left, operator, right)] += 1
        return computed(left, operator, right)

    def _next(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _take(self) -> str:
        token = self._next()
        if token is None:
            raise Unreadable("it breaks off")
        self._place += 1
        return token


def _tokens(text: str) -> list[str]:
    if len(text) > MAX_LENGTH:
        raise Unreadable(f"longer than {MAX_LENGTH} characters")
    text = text.translate(SIGNS)
    if strange := next((c for c in text if c not in "0123456789+-*/() "), None):
        raise Unreadable(f"unexpected {strange!r}")
    tokens = TOKEN.findall(text)
    if any(len(token) > MAX_DIGITS for token in tokens):
        raise Unreadable(f"a number of more than {MAX_DIGITS} digits")
    return tokens


def computed(left: Fraction, operator: str, right: Fraction) -> Fraction:
    """What an operation gives. Raises ZeroDivisionError."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else left / right


def operation(left: Fraction, operator: str, right: Fraction) -> Operation:
    """An operation in the one form that all its writings share."""
    if operator in "+*" and right < left:
        left, right = right, left
    return operator, left, right


def misuse(expression: Expression, numbers: Iterable[int], target: int, *, use_all: bool) -> str | None:
    """Why an expression does not make `target` of the given numbers, each at most (`use_all`: exactly) once."""
    given, used = Counter(numbers), Counter(expression.numbers)
    if extra := used - given:
        return f"uses {min(extra)} more often than it is given"
    if use_all and (missing := given - used):
        return f"does not use {min(missing)}"
    if expression.value != target:
        return f"equals {_shown(expression.value)}, not {target}"
    return None


def _shown(value: Fraction) -> str:
    """A value for the evidence; Python refuses to print integers of thousands of digits."""
    return str(value) if max(abs(value.numerator), value.denominator) < 10**MAX_DIGITS else "something else"
