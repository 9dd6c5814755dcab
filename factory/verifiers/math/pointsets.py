"""Unions of intervals and numbers, compared as sets of points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from factory.verifiers.math import exact
from factory.verifiers.math.exact import Form
from factory.verifiers.math.values import Group, Interval, Named, Number, Value

Span = tuple[Fraction | None, Fraction | None, tuple[bool, bool]]
"""Ends, None for infinity, and whether they belong to it."""


def as_interval(value: Value) -> Interval | None:
    """An interval, or two numbers in brackets, which may be one."""
    if isinstance(value, Interval):
        return value
    if isinstance(value, Group) and value.kind in {"(", "["} and len(value.items) == 2:
        low, high = value.items
        if isinstance(low, Number) and isinstance(high, Number):
            return Interval(low.form, high.form, (value.kind == "[", value.kind == "["))
    return None


def same_points(gold: Value, pred: Value) -> bool | None:
    """Whether the same numbers are in both; None where an end is not rational.

    Two such sets are the same if each end, a number between each two ends, and one beyond them, are in both or neither.
    """
    left, right = _spans(gold), _spans(pred)
    if left is None or right is None:
        return None
    ends = sorted({end for span in (*left, *right) for end in span[:2] if end is not None})
    if not ends:
        return bool(left) == bool(right)
    between = [(low + high) / 2 for low, high in pairwise(ends)]
    return all(_has(left, point) == _has(right, point) for point in (ends[0] - 1, *ends, *between, ends[-1] + 1))


def _spans(value: Value) -> list[Span] | None:
    """The parts of a union, of a set, or of inequalities joined by "or"."""
    found: list[Span] = []
    for part in _parts(value):
        span = _span(part)
        if span is None:
            return None
        found.append(span)
    return found


def _parts(value: Value) -> Iterator[Value]:
    if isinstance(value, Named):
        value = value.value
    is_list = isinstance(value, Group) and value.kind == "list"
    if isinstance(value, Group) and (value.kind in {"union", "set"} or is_list):
        for item in value.items:
            # A list of numbers is no union; inequalities of one name are.
            yield from _parts(item) if not is_list or isinstance(item, Named) else (value,)
    else:
        yield value


def _span(value: Value) -> Span | None:
    if isinstance(value, Number):
        number = value.form.number
        return None if number is None else (number, number, (True, True))
    interval = as_interval(value)
    if interval is None:
        return None
    ends = _end(interval.low, -1), _end(interval.high, 1)
    return (ends[0].number, ends[1].number, interval.closed) if ends[0].is_known and ends[1].is_known else None


@dataclass(frozen=True, slots=True)
class _End:
    number: Fraction | None
    """None for infinity."""
    is_known: bool = True


def _end(form: Form, sign: int) -> _End:
    """Not known where it is neither rational nor the infinity of that sign."""
    if form.number is not None:
        return _End(form.number)
    infinity = exact.atom(exact.INFINITY)
    return _End(None, exact.equal(form, infinity if sign > 0 else -infinity) is True)


def _has(spans: Sequence[Span], point: Fraction) -> bool:
    return any(
        (low is None or low < point or (low == point and closed[0]))
        and (high is None or point < high or (high == point and closed[1]))
        for low, high, closed in spans
    )
