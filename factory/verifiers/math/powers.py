"""Powers, roots, factorials and binomials of forms, worked out where that is cheap."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from math import isqrt

from factory.verifiers.math.exact import MAX_BITS, MAX_POWER, ONE, Form, TooHard, atom, number, unknown

MAX_FACTORED = 10**10
"""Whole numbers under a root that are taken apart, by trial division."""
MAX_FACTORIAL = 4000


def power(base: Form, exponent: Form) -> Form:
    """`base` to `exponent`, worked out where that is cheap."""
    by = exponent.number
    if by is None or by.denominator > 2:
        return unknown("pow", base, exponent)
    if by.denominator == 2:
        return _integral(base, by.numerator // 2) * square_root(base)
    return _integral(base, by.numerator)


def _integral(base: Form, by: int) -> Form:
    value = base.number
    if value is not None:
        return number(_number_power(value, by))
    if abs(by) > MAX_POWER:
        return unknown("pow", base, number(by))
    result = ONE
    for _ in range(abs(by)):
        result *= base
    return ONE / result if by < 0 else result


def _number_power(value: Fraction, by: int) -> Fraction:
    if value in (0, 1, -1):
        if value == 0 and by <= 0:
            raise TooHard("0 to a power that is not positive")
        return value if by % 2 or value == 0 else Fraction(1)
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    if bits * abs(by) > MAX_BITS:
        _too_high()
    return Fraction(value**by)


def _too_high() -> Form:
    raise TooHard("too high a power")


def square_root(form: Form) -> Form:
    """The root as a product of roots of primes, of a rational number; an unknown of anything else."""
    value = form.number
    if value is None:
        return unknown("pow", form, number(Fraction(1, 2)))
    square = abs(value.numerator) * value.denominator
    root = isqrt(square)
    result = number(Fraction(root, value.denominator)) if root * root == square else _surd(square, value.denominator)
    return result * atom("i") if value < 0 else result


@lru_cache(maxsize=1000)
def _surd(square: int, over: int) -> Form:
    if square > MAX_FACTORED:
        return unknown("pow", number(Fraction(square, over * over)), number(Fraction(1, 2)))
    outside, roots = 1, []
    for prime, times in _factors(square):
        outside *= prime ** (times // 2)
        if times % 2:
            roots.append((f"r{prime}", 1))
    return Form({tuple(sorted(roots)): Fraction(outside, over)}, ONE.lower)


def _factors(value: int) -> Iterator[tuple[int, int]]:
    divisor = 2
    while divisor * divisor <= value:
        times = 0
        while value % divisor == 0:
            value //= divisor
            times += 1
        if times:
            yield divisor, times
        divisor += 1 if divisor == 2 else 2
    if value > 1:
        yield value, 1


def factorial(form: Form) -> Form:
    value = form.number
    if value is None or value.denominator != 1 or value < 0:
        return unknown("factorial", form)
    if value > MAX_FACTORIAL:
        raise TooHard("too large a factorial")
    result = 1
    for by in range(2, value.numerator + 1):
        result *= by
    return number(result)


def binomial(above: Form, below: Form) -> Form:
    n, k = above.number, below.number
    if n is None or k is None or n.denominator != 1 or k.denominator != 1 or not 0 <= k <= n <= MAX_FACTORIAL:
        return unknown("binom", above, below)
    result = 1
    for step in range(1, min(k.numerator, n.numerator - k.numerator) + 1):
        result = result * (n.numerator - step + 1) // step
    return number(result)


def root(form: Form, degree: int) -> Form:
    """The root of any whole degree."""
    if degree == 2:
        return square_root(form)
    value = form.number
    if value is not None and value.denominator == 1 and abs(value) < 10**12 and (value > 0 or degree % 2):
        near = round(abs(value.numerator) ** (1 / degree))  # a guess, held against the exact power
        if near**degree == abs(value):
            return number(near if value > 0 else -near)
    return unknown("pow", form, number(Fraction(1, degree)))
