"""Values of functions at a point, to about 60 digits, in decimal arithmetic: enough to tell two formulas apart.

Where a function has no real value, ArithmeticError or ValueError is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from math import comb

DIGITS = 60
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")
LARGEST = Decimal(10) ** 30
"""Arguments are smaller."""
_TINY = Decimal("1e-30")
"""What counts as nothing, beside the errors of 60 digits."""


def sampled(name: str, arguments: list[Decimal | None]) -> Decimal | None:
    """A function's value; None where it has none here."""
    values = [value for value in arguments if value is not None and abs(value) < LARGEST]
    if name not in _FUNCTIONS or len(values) < len(arguments):
        return None
    try:
        with localcontext() as context:
            context.prec, context.Emax, context.Emin = DIGITS + 20, 10**4, -(10**4)
            return _FUNCTIONS[name](*values)
    except (ArithmeticError, ValueError):
        return None


def apart(left: Decimal | None, right: Decimal | None) -> bool:
    """Whether two samples differ by more than their errors: then so do the formulas."""
    if left is None or right is None:
        return False
    return abs(left - right) > _TINY * max(abs(left), abs(right), Decimal(1))


def _whole(value: Decimal) -> Decimal | None:
    """The whole number that a value is, but for errors."""
    near = value.to_integral_value()
    return near if abs(value - near) < _TINY else None


def _power(base: Decimal, by: Decimal) -> Decimal:
    if base <= 0 and by != int(by):
        raise ValueError("not real")
    if base < _TINY and base != 0:
        raise ValueError("an error may have grown")
    return base**by


def _logarithm(base: Decimal, value: Decimal) -> Decimal:
    if value < _TINY or base < _TINY or abs(base - 1) < _TINY:
        raise ValueError("not real, or no base")
    return value.ln() / base.ln()


def _floor(value: Decimal) -> Decimal:
    whole = _whole(value)
    return whole if whole is not None else (value - Decimal("0.5")).to_integral_value()


def _ceiling(value: Decimal) -> Decimal:
    return -_floor(-value)


def _binomial(above: Decimal, below: Decimal) -> Decimal:
    n, k = _whole(above), _whole(below)
    if n is None or k is None or not 0 <= k <= n <= 1000:
        raise ValueError("not a number of choices")
    return Decimal(comb(int(n), int(k)))


def _sine(angle: Decimal) -> Decimal:
    angle %= 2 * PI
    term, total, number = angle, angle, 1
    while abs(term) > Decimal("1e-75"):
        term *= -angle * angle / ((number + 1) * (number + 2))
        total, number = total + term, number + 2
    return total if abs(total) > _TINY else Decimal(0)


def _cosine(angle: Decimal) -> Decimal:
    return _sine(angle + PI / 2)


def _arctangent(value: Decimal) -> Decimal:
    for _ in range(4):  # each step halves the angle
        value /= 1 + (1 + value * value).sqrt()
    term, total, number = value, value, 1
    while abs(term) > Decimal("1e-75"):
        term *= -value * value
        number += 2
        total += term / number
    return 16 * total


def _arcsine(value: Decimal) -> Decimal:
    if abs(value) >= 1:
        raise ValueError("not real, or at an end")
    return _arctangent(value / (1 - value * value).sqrt())


_FUNCTIONS: dict[str, Callable[..., Decimal]] = {
    "pow": _power,
    "abs": abs,
    "binom": _binomial,
    "\\lfloor": _floor,
    "\\lceil": _ceiling,
    "\\log": _logarithm,
    "\\sin": _sine,
    "\\cos": _cosine,
    "\\arctan": _arctangent,
    "\\arcsin": _arcsine,
    "\\arccos": lambda value: PI / 2 - _arcsine(value),
}
