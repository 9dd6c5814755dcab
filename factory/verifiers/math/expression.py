"""A stretch of tokens as a form (`exact`), by recursive descent; what this does not understand is Unreadable.

3\\frac{1}{2}, 3 1/2     a whole number before a proper fraction of whole numbers is a mixed number, not a product
1/2x, 1/2\\pi            refused: people mean either
\\sin 2x, \\log_2 8       an unknown made of its argument: equal to itself only (see `exact`)
f(x)                     an unknown for the letters f, g, h, F, G, P, Q, W; for others it is a product
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from factory.verifiers.math import exact, powers
from factory.verifiers.math.exact import Form, TooHard
from factory.verifiers.math.tokens import Broken, Token, Unreadable

MAX_DEPTH = 40
"""Brackets inside of brackets."""
MAX_DIGITS = 2000
"""Of a number as written."""
FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp)")
LETTER = re.compile(
    r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|"
    r"phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega|infty|ell)"
)
ELLIPSES = frozenset(("\\ldots", "\\dotsm", "\\dotsb", "\\dotsc", "…"))
APPLIED = frozenset("fghFGPQW")
OPENING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
CLOSING = frozenset(OPENING.values())
_ROUND = frozenset("([")
_ENDS_FACTORS = frozenset(
    (*CLOSING, *("+", "-", "*", "/", "^", "_", "!", "|", ",", ";", ":", "%", "°", "&", "'", "\\choose"))
)


def matches(tokens: Sequence[Token]) -> list[int]:
    """For each opening sign the place of its closing one, and -1 elsewhere. `(` and `[` may close each other's, as
    intervals have it. Raises Unreadable where signs are left over."""
    found, stack = [-1] * len(tokens), []
    for place, token in enumerate(tokens):
        text = token.text
        if text in OPENING or text.startswith("\\begin{"):
            stack.append(place)
        elif text in CLOSING or text.startswith("\\end{"):
            if not stack or not _close(tokens[stack[-1]].text, text):
                raise Broken("brackets do not match")
            found[stack.pop()] = place
        if len(stack) > MAX_DEPTH:
            raise Unreadable("too deep")
    if stack:
        raise Broken("brackets do not match")
    return found


def _close(opening: str, closing: str) -> bool:
    if opening in _ROUND:
        return closing in {")", "]"}
    return closing == (OPENING.get(opening) or opening.replace("\\begin", "\\end"))


class Expression:
    """Reads forms from tokens. `place` is where it stands; it never reads at `end` or beyond."""

    def __init__(self, tokens: Sequence[Token], closing: Sequence[int], place: int, end: int) -> None:
        self._tokens, self._closing = tokens, closing
        self.place, self._end = place, end

    def sum(self) -> Form:
        total = self._signed()
        while self._next() in {"+", "-"}:
            sign = self._take().text
            term = self._signed()
            total = total + term if sign == "+" else total - term
        return total

    def _signed(self) -> Form:
        negative = False
        while self._next() in {"+", "-"}:
            negative ^= self._take().text == "-"
        term = self._product()
        return -term if negative else term

    def _product(self) -> Form:
        value, divided = self._factor(), False
        while True:
            sign = self._next()
            if sign in {"*", "/"}:
                self._take()
                factor = -self._after_minus() if self._next() == "-" else self._factor()
                value, divided = (value * factor, False) if sign == "*" else (value / factor, True)
            elif self._starts_factor():
                if divided:
                    raise Broken("a / before a product without a sign")
                if self._is_number():
                    raise Broken("a number behind a factor without a sign")
                value = value * self._factor()
            else:
                return value

    def _is_number(self) -> bool:
        token = self._peek()
        return token is not None and token.kind == "number"

    def _after_minus(self) -> Form:
        self._take()
        return self._factor()

    def _starts_factor(self) -> bool:
        token = self._peek()
        return token is not None and token.kind != "word" and token.text not in _ENDS_FACTORS and not self._is_unit()

    def _is_unit(self) -> bool:
        """A letter that is set off behind the rest, such as the m of `10 m`: a unit, and not a factor."""
        token, last = self._tokens[self.place], self._end - 1
        if not (token.gap and token.kind == "name" and token.text in "mgshLN" and self.place > 0):
            return False
        if self._tokens[self.place - 1].kind != "number":
            return False
        rest = "".join(t.text for t in self._tokens[self.place + 1 : self._end])
        return self.place == last or rest in {"^2", "^3", "^{2}", "^{3}"}

    def _factor(self) -> Form:
        value = self._atom()
        last = ""
        while (sign := self._next()) in {"!", "^"}:
            self._take()
            if sign == last:
                raise Broken("a power of a power, or a double factorial, without brackets")
            value = powers.factorial(value) if sign == "!" else powers.power(value, self._argument())
            last = sign
        return value

    def _argument(self) -> Form:
        """What a `^`, a root or a fraction applies to: a group, or one atom with its sign."""
        if self._next() == "-":
            self._take()
            return -self._argument()
        return self._atom()

    def _atom(self) -> Form:
        token = self._take()
        if token.kind == "number":
            return self._number(token)
        if token.kind == "name":
            return self._name(token.text)
        if token.text in OPENING:
            return self._bracketed(token)
        if token.text == "|":
            return self._absolute()
        if token.kind == "command":
            return self._command(token.text)
        raise Broken(f"unexpected {token.text[:20]!r}")

    def _number(self, token: Token) -> Form:
        if len(token.text) > MAX_DIGITS:
            raise TooHard("too many digits")
        value = exact.number(Fraction(token.text))
        if self._next() == "_":
            return exact.atom(f"fdigits{token.text}_{self._subscript()}")
        if self._next() in {"e", "E"} and (power := self._scientific()) is not None:
            return value * powers.power(exact.number(10), exact.number(power))
        if "." not in token.text and (part := self._proper()) is not None:
            return value + exact.number(part)
        return value

    def _scientific(self) -> int | None:
        """`1e10`, without white space. `1e-5` is refused: it may be Euler's number less 5."""
        after = self._tokens[self.place + 1 : self._end]
        if self._tokens[self.place].gap or not after or after[0].gap:
            return None
        if after[0].text == "-" and len(after) == 2 and after[1].kind == "number":
            raise Unreadable("a power of ten, or Euler's number")
        if after[0].kind != "number" or not after[0].text.isdigit() or len(after[0].text) > 4:
            return None
        self.place += 2
        return int(after[0].text)

    def _proper(self) -> Fraction | None:
        """A fraction below 1 of whole numbers, right here: the other part of a mixed number."""
        ahead = self._tokens[self.place : min(self.place + 7, self._end)]
        texts = [token.text for token in ahead]
        if not texts:
            return None
        for pattern in (("\\frac", "{", 0, "}", "{", 0, "}"), ("\\frac", 0, 0), (0, "/", 0)):
            shape = ahead[: len(pattern)]
            if len(shape) < len(pattern) or (pattern[0] == 0 and not shape[0].gap):
                continue
            if all(t.text.isdecimal() if p == 0 else t.text == p for t, p in zip(shape, pattern, strict=True)):
                above, below = (int(t.text) for t in shape if t.kind == "number")
                if 0 < above < below < 10**6:
                    self.place += len(pattern)
                    return Fraction(above, below)
        return None

    def _name(self, letter: str) -> Form:
        name = f"x{letter}"
        while self._next() == "'":
            self._take()
            name += "'"
        if self._next() == "_":
            self._take()
            name += f"_{self._subscript_text()}"
        if letter in APPLIED and self._next() == "(" and not self._tokens[self.place].gap:
            return exact.unknown(name, self._bracketed(self._take()))
        return exact.atom({"xi": "i", "xe": "e"}.get(name, name))

    def _subscript(self) -> str:
        self._take()
        return self._subscript_text()

    def _subscript_text(self) -> str:
        token = self._take()
        if token.text != "{":
            return token.text
        start, self.place = self.place, self._closing[self.place - 1] + 1
        return "".join(inner.text for inner in self._tokens[start : self.place - 1])

    def _bracketed(self, opening: Token) -> Form:
        end = self._closing[self.place - 1]
        if opening.text == "\\{" or self._tokens[end].text != OPENING[opening.text]:
            raise Unreadable("a set or an interval in a formula")
        inner = Expression(self._tokens, self._closing, self.place, end)
        value = inner.whole() if opening.text != "{" else inner.group()
        self.place = end + 1
        if opening.text in {"\\lfloor", "\\lceil"}:
            return exact.unknown(opening.text, value)
        return value

    def whole(self) -> Form:
        return self.rest(self.sum())

    def rest(self, value: Form) -> Form:
        """The value, if nothing stands behind it."""
        if self.place < self._end:
            token = self._tokens[self.place]
            raise (Broken if token.kind == "word" else Unreadable)(f"unexpected {token.text[:20]!r}")
        return value

    def group(self) -> Form:
        """All of it; `{n \\choose k}` is a binomial."""
        value = self.sum()
        if self._next() == "\\choose":
            self._take()
            return powers.binomial(value, self.whole())
        return self.rest(value)

    def _absolute(self) -> Form:
        place = self.place
        while place < self._end and self._tokens[place].text != "|":
            place = max(place, self._closing[place]) + 1
        if place >= self._end:
            raise Unreadable("a | without its other")
        value = Expression(self._tokens, self._closing, self.place, place).whole()
        self.place = place + 1
        if value.number is not None:
            return exact.number(abs(value.number))
        return exact.unknown("abs", value)

    def _command(self, name: str) -> Form:
        if name == "\\frac":
            above = self._argument()
            return above / self._argument()
        if name == "\\sqrt":
            return self._root()
        if name == "\\pi":
            return exact.atom("p")
        if name == "\\binom":
            above = self._argument()
            return powers.binomial(above, self._argument())
        if LETTER.fullmatch(name):
            sub = self._subscript() if self._next() == "_" else ""
            return exact.atom(f"x{name}_{sub}" if sub else f"x{name}")
        if FUNCTION.fullmatch(name):
            return self._function(name)
        raise (Broken if name in ELLIPSES else Unreadable)(f"unexpected {name[:20]}")

    def _root(self) -> Form:
        if self._next() != "[":
            return powers.square_root(self._argument())
        degree = self._bracketed(self._take()).number
        value = self._argument()
        if degree is None or degree.denominator != 1 or not 1 < degree < 100:
            raise Unreadable("the degree of a root")
        return powers.root(value, degree.numerator)

    def _function(self, name: str) -> Form:
        base: Form | None = None
        by: Form | None = None
        while self._next() in {"_", "^"}:
            if self._take().text == "_":
                base = self._argument()
            else:
                by = self._argument()
        if by is not None and by.number == -1 and name in {"\\sin", "\\cos", "\\tan"}:
            name, by = f"\\arc{name[1:]}", None
        value = _applied(name, base, self._operand())
        if by is None:
            return value
        if by.number is None or by.number < 0:
            raise Unreadable("a function to an odd power")
        return powers.power(value, by)

    def _operand(self) -> Form:
        """What a function is applied to: brackets, or factors up to the next function."""
        if self._next() in {"(", "{", "["}:
            value = self._bracketed(self._take())
            if self._next() == "°":
                raise Broken("degrees")
            if self._starts_factor() and self._next() not in {"\\sin", "\\cos"}:
                raise Unreadable("a function before a product of brackets")
            return value
        value = self._factor()
        if self._next() == "°":
            self._take()
            return value * exact.atom("p") / exact.number(180)
        while self._starts_factor() and not FUNCTION.fullmatch(self._next()) and self._next() not in OPENING:
            value = value * self._factor()
        return value

    def _peek(self) -> Token | None:
        return self._tokens[self.place] if self.place < self._end else None

    def _next(self) -> str:
        token = self._peek()
        return token.text if token is not None else ""

    def _take(self) -> Token:
        token = self._peek()
        if token is None:
            raise Broken("it ends too early")
        self.place += 1
        return token


_RATIOS = {
    "\\tan": ("\\sin", "\\cos"),
    "\\cot": ("\\cos", "\\sin"),
    "\\sec": ("", "\\cos"),
    "\\csc": ("", "\\sin"),
}
"""Functions that are ratios of others."""


def _applied(name: str, base: Form | None, argument: Form) -> Form:
    if name == "\\exp":
        return powers.power(exact.atom("e"), argument)
    if name == "\\ln":
        return exact.unknown("\\log", exact.atom("e"), argument)
    if name in _RATIOS:
        above, below = (exact.unknown(part, argument) if part else exact.ONE for part in _RATIOS[name])
        return above / below
    if base is None:
        # A logarithm without a base is to one of 10 or of e: it has no value here.
        return exact.unknown("\\log?" if name == "\\log" else name, argument)
    return exact.unknown(name, base, argument)
