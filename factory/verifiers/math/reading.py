"""One answer as a value: lists, sets, tuples, intervals, matrices, equations, and the forms inside.

An answer may be read in more ways than one, and `read` returns them all, likeliest first: `1,875` is one number or two;
`0,5` is one of those where decimal commas are used; `A \\approx B` states A, and B roughly; `(B) 12` is a choice's
letter and its text. What is not understood is `Opaque`, as a whole or, in a list, in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from factory.verifiers.math import exact
from factory.verifiers.math.exact import Form, TooHard
from factory.verifiers.math.expression import ELLIPSES, LETTER, OPENING, Expression, matches
from factory.verifiers.math.tokens import Broken, Token, Unreadable, text_key, tokens
from factory.verifiers.math.values import (
    Group,
    Interval,
    Matrix,
    Named,
    Number,
    Opaque,
    Relation,
    Text,
    Value,
)
from factory.verifiers.math.variants import COMMA, after_approx, variants
from factory.verifiers.math.words import NUMBER_WORDS, unit_name

MAX_ITEMS = 64
"""Of a list, and cells of a matrix."""
MAX_DEPTH = 12
"""Values inside of values."""
RELATIONS = frozenset(("=", "<", ">", "\\leq", "\\geq", "\\neq", "\\approx", "\\in", "\\equiv", "\\rightarrow"))
_TURNED = {">": "<", "\\geq": "\\leq"}
_UNIT_SIGNS = frozenset(("%", "°", "^", "{", "}", "/", "2", "3", "\\circ", "*"))

_INDEX = r"(?:_(?:\{[A-Za-z0-9,+-]*\}|[A-Za-z0-9]))?"
_ONE = rf"(?:{LETTER.pattern}|[A-Za-z]){_INDEX}'*(?:\([A-Za-z0-9,]*\))?"
_FIGURE = rf"\\(?:overline|angle|triangle)\{{?(?:[A-Z]{_INDEX})+\}}?"
_PART = rf"(?:\|?[A-Z]{{2,}}\|?|{_FIGURE}|\|{_ONE}\||{_ONE})"
NAME = re.compile(
    rf"{_PART}(?::{_PART})*|\\frac\{{{_PART}\}}\{{{_PART}\}}|[A-Z]{{2,}}/[A-Z]{{2,}}|\({_ONE}(?:,{_ONE})*\)"
)
"""What may be said to have a value: letters, f(x), |AB|, AB:CD, NO/BO, (p,q)."""


@lru_cache(maxsize=512)  # a reference is held against many answers
def read(text: str) -> tuple[Value, ...]:
    """All readings, likeliest first; never empty. Raises Unreadable for an answer that is too long."""
    found: list[Value] = []
    for variant in variants(list(tokens(text))):
        value = _read(variant)
        found.append(_with_comma(value) if variant[-1:] == [COMMA] else value)
    rough = after_approx(list(tokens(text)))
    if rough is not None and _is_about(found[0], value := _read(rough)):
        found.append(value)
    return tuple(found)


def _is_about(exact_value: Value, rough: Value) -> bool:
    """Whether two numbers are within a twentieth of each other: else `5 \\approx 6` would be two answers in one."""
    if not (isinstance(exact_value, Number) and isinstance(rough, Number)):
        return False
    left, right = exact_value.form.decimal(), rough.form.decimal()
    return left is not None and right is not None and abs(left - right) * 20 <= abs(left)


def _read(found: list[Token]) -> Value:
    try:
        reader = _Reader(found, matches(found))
    except Unreadable:
        return Opaque(text_key(tuple(found)), broken=True)
    try:
        return reader.answer(0, len(found), 0)
    except (Unreadable, TooHard) as error:
        return reader.opaque(0, len(found), error)


def _with_comma(value: Value) -> Value:
    if isinstance(value, Number):
        return Number(value.form, value.digits, value.places, value.percent, value.unit, comma=True)
    return value


# --- reading one of them


class _Reader:
    """Reads values from tokens; all methods take a stretch of them, and the depth they are at."""

    def __init__(self, found: list[Token], closing: list[int]) -> None:
        self._tokens, self._closing = found, closing

    def answer(self, start: int, end: int, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise Unreadable("too deep")
        while start < end and self._tokens[start].text == "{" and self._closing[start] == end - 1:
            start, end = start + 1, end - 1
        if start < end and not self._tokens[end - 1].text:
            end -= 1
        if start >= end:
            raise Broken("empty")
        part = self._tokens[start:end]
        if len(part) == 1 and part[0].text.lower() in NUMBER_WORDS:
            return Number(exact.number(NUMBER_WORDS.index(part[0].text.lower())))
        if _are_words(part):
            return Text(" ".join(token.text.lower() for token in part))
        return self._listed(start, end, depth)

    def opaque(self, start: int, end: int, error: Exception) -> Opaque:
        relates = len(self._split(start, end, _is_relation, keep_empty=True)) > 1
        return Opaque(self._key(start, end), isinstance(error, Broken), relates)

    def _listed(self, start: int, end: int, depth: int) -> Value:
        for is_separator, inner in ((_is_semicolon, "("), (_is_comma, "list")):
            parts = self._split(start, end, is_separator)
            if len(parts) > 1:
                if any(token.text in ELLIPSES for token in self._tokens[start:end]):
                    raise Broken("an ellipsis")
                return Group("list", self._items(parts, depth, inner))
        tuples = self._side_by_side(start, end)
        if len(tuples) > 1:
            return Group("list", self._items(tuples, depth, "list"))
        return self._related(start, end, depth)

    def _side_by_side(self, start: int, end: int) -> list[tuple[int, int]]:
        """The tuples of `(1,2)(3,4)`; none of `(x+1)(x+2)`."""
        found = []
        while start < end and self._tokens[start].text == "(":
            stop = self._closing[start] + 1
            if not any(token.text == "," for token in self._tokens[start:stop]):
                return []
            found.append((start, stop))
            start = stop
        return found if start == end else []

    def _items(self, parts: list[tuple[int, int]], depth: int, inner: str) -> tuple[Value, ...]:
        items: list[Value] = []
        for start, end in parts:
            try:
                value = self.answer(start, end, depth + 1)
            except (Unreadable, TooHard) as error:
                value = self.opaque(start, end, error)
            if isinstance(value, Group) and value.kind == "list" and inner == "list":
                items.extend(value.items)  # both values of a plus-minus
            elif isinstance(value, Group) and value.kind == "list":
                items.append(Group(inner, value.items))
            else:
                items.append(value)
        if len(items) > MAX_ITEMS:
            raise TooHard("too many items")
        return tuple(items)

    def _related(self, start: int, end: int, depth: int) -> Value:
        sides = self._split(start, end, _is_relation, keep_empty=True)
        signs = [self._tokens[right].text for _, right in sides[:-1]]
        if not signs:
            return self._structure(start, end, depth)
        if "\\rightarrow" in signs:
            last = len(signs) - signs[::-1].index("\\rightarrow")
            return self.answer(sides[last][0], end, depth + 1)
        if "\\approx" in signs:
            return self._rough(sides, signs.index("\\approx"), depth)
        if signs == ["\\in"] and self._is_name(*sides[0]):
            return Named(self._key(*sides[0]), self._form_or_none(*sides[0]), self.answer(*sides[1], depth + 1))
        if set(signs) == {"="}:
            return self._equated(sides, depth)
        if signs == ["\\neq"]:
            return Relation("\\neq", self._form(*sides[0]), self._form(*sides[1]))
        return self._ordered(sides, signs)

    def _rough(self, sides: list[tuple[int, int]], first: int, depth: int) -> Value:
        """What stands before an `\\approx`, unless that is a name."""
        if first == 0 and self._is_name(*sides[0]):
            return Named(self._key(*sides[0]), None, self.answer(*sides[-1], depth + 1))
        return self.answer(sides[0][0], sides[first][1], depth + 1)

    def _equated(self, sides: list[tuple[int, int]], depth: int) -> Value:
        if self._is_name(*sides[0]):
            return Named(self._key(*sides[0]), self._form_or_none(*sides[0]), self.answer(*sides[-1], depth + 1))
        if len(sides) == 2 and self._is_name(*sides[1]):
            return Named(self._key(*sides[1]), self._form_or_none(*sides[1]), self.answer(*sides[0], depth + 1))
        forms = [self._form(*side) for side in sides]
        if all(form.decimal() is not None for form in forms):
            return Number(forms[-1])  # a calculation, whose result stands last
        if len(forms) == 2:
            return Relation("=", forms[0], forms[1])
        raise Broken("a chain of equations")

    def _ordered(self, sides: list[tuple[int, int]], signs: list[str]) -> Value:
        if set(signs) <= {">", "\\geq"}:
            sides, signs = sides[::-1], [_TURNED[sign] for sign in signs[::-1]]
        if not set(signs) <= {"<", "\\leq"}:
            raise Broken("relations of several kinds")
        closed = [sign == "\\leq" for sign in signs]
        infinity = exact.atom(exact.INFINITY)
        if len(sides) == 3 and self._is_name(*sides[1]):
            bounds = Interval(self._form(*sides[0]), self._form(*sides[2]), (closed[0], closed[1]))
            return Named(self._key(*sides[1]), None, bounds)
        if len(sides) != 2:
            raise Broken("a chain of relations")
        named = [self._is_name(*side) for side in sides]
        if named == [True, False]:
            return Named(self._key(*sides[0]), None, Interval(-infinity, self._form(*sides[1]), (False, closed[0])))
        if named == [False, True]:
            return Named(self._key(*sides[1]), None, Interval(self._form(*sides[0]), infinity, (closed[0], False)))
        return Relation(signs[0], self._form(*sides[0]), self._form(*sides[1]))

    def _structure(self, start: int, end: int, depth: int) -> Value:
        unions = self._split(start, end, _is_union)
        if len(unions) > 1:
            return Group("union", self._items(unions, depth, "union"))
        opening = self._tokens[start].text
        if self._closing[start] == end - 1:
            if opening.startswith("\\begin{"):
                return self._matrix(start, end, depth)
            if opening in {"(", "[", "\\{"}:
                return self._bracketed(start, end, depth)
        if opening == "-" and start + 1 < end and self._closing[start + 1] == end - 1:
            inner = self._structure(start + 1, end, depth)
            if isinstance(inner, Interval):
                return Interval(-inner.high, -inner.low, (inner.closed[1], inner.closed[0]))
        if opening == "\\emptyset" and end == start + 1:
            return Group("set", ())
        if any(token.text in {"\\pm", "\\mp"} for token in self._tokens[start:end]):
            return self._both_signs(start, end)
        ratio = self._split(start, end, _is_colon)
        if len(ratio) > 1:
            return Group("ratio", tuple(self._ratio_part(*part) for part in ratio))
        return self._number(start, end)

    def _bracketed(self, start: int, end: int, depth: int) -> Value:
        opening, closing = self._tokens[start].text, self._tokens[end - 1].text
        if opening == "\\{":
            if any(token.text in {"|", ":"} for token in self._tokens[start:end]):
                raise Broken("a set by its property")
            return Group("set", self._inner_items(start, end, depth))
        items = self._inner_items(start, end, depth)
        if OPENING[opening] != closing:
            if len(items) != 2 or not isinstance(items[0], Number) or not isinstance(items[1], Number):
                raise Unreadable("brackets that do not match")
            return Interval(items[0].form, items[1].form, (opening == "[", closing == "]"))
        if len(items) > 1:
            return Group(opening, items)
        if len(items) == 1 and not isinstance(items[0], Number):
            return items[0]
        return self._number(start, end)

    def _inner_items(self, start: int, end: int, depth: int) -> tuple[Value, ...]:
        parts = self._split(start + 1, end - 1, lambda token: token.text in {",", ";"})
        return self._items(parts, depth, "list")

    def _matrix(self, start: int, end: int, depth: int) -> Value:
        name = self._tokens[start].text
        start, end = start + 1, end - 1
        if "array" in name and start < end and self._tokens[start].text == "{":
            start = self._closing[start] + 1
        elif "matrix" not in name:
            raise Unreadable("an environment that is no matrix")
        rows = self._split(start, end, lambda token: token.text == "\\\\")
        cells = [self._items(self._split(*row, lambda token: token.text == "&"), depth, "list") for row in rows]
        if len({len(row) for row in cells}) != 1 or len(cells) * len(cells[0]) > MAX_ITEMS:
            raise Unreadable("rows of several lengths")
        return Matrix(tuple(cells))

    def _both_signs(self, start: int, end: int) -> Value:
        """Both values; the signs of one formula go together, and a minus-plus goes against them."""
        values: list[Value] = []
        for signs in ({"\\pm": "+", "\\mp": "-"}, {"\\pm": "-", "\\mp": "+"}):
            chosen = [token._replace(text=signs.get(token.text, token.text)) for token in self._tokens]
            values.append(_Reader(chosen, self._closing)._number(start, end))
        return Group("list", tuple(values))

    def _ratio_part(self, start: int, end: int) -> Value:
        value = self._number(start, end)
        text = self._key(start, end)
        # Clock time, 12:00, is no ratio: it is compared as it is written.
        return Text(text) if len(text) > 1 and text.startswith("0") and text.isdigit() else value

    def _number(self, start: int, end: int) -> Number:
        expression = Expression(self._tokens, self._closing, start, end)
        form = expression.sum()
        unit = self._tokens[expression.place : end]
        if any(t.kind not in {"word", "name"} and t.text not in _UNIT_SIGNS for t in unit):
            has_words = any(token.kind == "word" for token in unit)
            raise (Broken if has_words else Unreadable)("more than a number")
        digits, places = _decimals(self._tokens[start : expression.place])
        words = "".join(token.text.lower() for token in unit if token.text != "%")
        return Number(form, digits, places, any(token.text == "%" for token in unit), unit_name(words))

    def _form(self, start: int, end: int) -> Form:
        return Expression(self._tokens, self._closing, start, end).whole()

    def _form_or_none(self, start: int, end: int) -> Form | None:
        try:
            return self._form(start, end)
        except (Unreadable, TooHard):
            return None

    def _is_name(self, start: int, end: int) -> bool:
        part = self._tokens[start:end]
        if part and all(token.kind == "word" for token in part):
            return True
        return len(part) <= 40 and NAME.fullmatch(self._key(start, end)) is not None

    def _key(self, start: int, end: int) -> str:
        return text_key(tuple(self._tokens[start:end]))

    def _split(
        self, start: int, end: int, is_separator: Callable[[Token], bool], *, keep_empty: bool = False
    ) -> list[tuple[int, int]]:
        """The stretches between separators outside of brackets; an empty one, as in `2, and 3`, is none."""
        parts, begin, place = [], start, start
        while place < end:
            if is_separator(self._tokens[place]):
                parts.append((begin, place))
                begin = place + 1
            place = max(place, self._closing[place]) + 1
        parts.append((begin, end))
        return parts if keep_empty else [part for part in parts if part[0] < part[1]]


def _are_words(part: list[Token]) -> bool:
    if any(token.text in {"and", "or"} for token in part):
        return False
    return any(token.kind == "word" for token in part) and all(token.kind in {"word", "name"} for token in part)


def _is_semicolon(token: Token) -> bool:
    return token.text == ";"


def _is_comma(token: Token) -> bool:
    return token.text == "," or (token.kind == "word" and token.text in {"and", "or"})


def _is_relation(token: Token) -> bool:
    return token.text in RELATIONS


def _is_union(token: Token) -> bool:
    return token.text == "\\cup"


def _is_colon(token: Token) -> bool:
    return token.text == ":"


def _decimals(written: list[Token]) -> tuple[int, int]:
    """Significant digits and places of a number with a point, signed or not; zeros of anything else."""
    if len(written) == 2 and written[0].text in {"-", "+"}:
        written = written[1:]
    if len(written) != 1 or written[0].kind != "number" or "." not in written[0].text:
        return 0, 0
    whole, _, part = written[0].text.partition(".")
    return len((whole + part).lstrip("0")), len(part)
