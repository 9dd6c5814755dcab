"""Exact arithmetic that is cheap: quotients of polynomials over the rationals, in letters, roots, pi and whatever
cannot be worked out.

An atom is a string, and its first letter says what is known of it:

    x...  a letter: independent of all others
    r...  the square root of a prime; its square is that prime
    i     the imaginary unit; its square is -1
    p, e  pi and Euler's number: each is transcendental, but of the two together nothing is proven
    f...  a function's value, a power with letters in it, ...: equal to itself; behind an @ stands its value, if any

Two forms whose difference is zero are equal. A difference that is not zero means that they differ where no atom of the
last kind, and not both pi and e, is in it. Otherwise they differ if they do at one point: with the same whole number in
the place of each letter, to 30 digits. (A whole number, because ⌈n/2⌉ and ⌊(n+1)/2⌋ are one answer.) What is left,
`equal` does not decide. Nothing grows without bound: what exceeds the limits below raises `TooHard`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cached_property
from zlib import crc32

from factory.verifiers.math.sampling import DIGITS, PI, apart, sampled

MAX_TERMS = 200
MAX_POWER = 64
"""Of a form that is no number."""
MAX_BITS = 1 << 16
"""Of a numerator or denominator; 3^2025 has 3,210."""
MAX_KEY = 4000
"""Characters of an unknown's name."""

INFINITY = "x\\infty"
"""The atom of infinity, a letter like others."""

Monomial = tuple[tuple[str, int], ...]
"""Atoms with their powers, in the order of the atoms."""
Polynomial = dict[Monomial, Fraction]
"""Coefficients, none zero."""


class TooHard(Exception):
    """What cheap arithmetic does not do; says nothing about the answer."""


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise TooHard("a number is too large")
    return value


def _times(left: Polynomial, right: Polynomial) -> Polynomial:
    if len(left) * len(right) > MAX_TERMS * 20:
        raise TooHard("too many terms")
    product: Polynomial = {}
    for one, factor in left.items():
        for other, by in right.items():
            key, extra = _joined(one, other)
            product[key] = product.get(key, Fraction()) + _bounded(factor * by * extra)
    return _clean(product)


def _plus(left: Polynomial, right: Polynomial, sign: int = 1) -> Polynomial:
    total = dict(left)
    for key, value in right.items():
        total[key] = total.get(key, Fraction()) + sign * value
    return _clean(total)


def _clean(polynomial: Polynomial) -> Polynomial:
    found = {key: value for key, value in polynomial.items() if value}
    if len(found) > MAX_TERMS:
        raise TooHard("too many terms")
    return found


def _joined(one: Monomial, other: Monomial) -> tuple[Monomial, int]:
    """The product of two monomials, and the whole number that squares of roots leave."""
    if not one or not other:
        return one or other, 1
    powers = dict(one)
    for atom, power in other:
        powers[atom] = powers.get(atom, 0) + power
    extra = 1
    for atom, power in powers.items():
        if power >= 2 and (atom == "i" or atom[0] == "r"):
            extra *= (-1 if atom == "i" else int(atom[1:])) ** (power // 2)
            powers[atom] = power % 2
        elif power > MAX_POWER:
            raise TooHard("too high a power")
    return tuple(sorted((atom, power) for atom, power in powers.items() if power)), extra


@dataclass(frozen=True, eq=False)
class Form:
    """A quotient of two polynomials; the lower one is never zero."""

    upper: Polynomial
    lower: Polynomial

    @cached_property
    def number(self) -> Fraction | None:
        """Its value where it is rational and that shows at once."""
        if not self.upper:
            return Fraction()
        if self.upper.keys() == self.lower.keys() == {()}:
            return self.upper[()] / self.lower[()]
        return None

    @cached_property
    def key(self) -> str:
        """The same for forms that are written alike but for the order of their parts."""
        if self.number is not None:
            return _shown(self.number)
        lead = min(self.lower)
        scale = self.lower[lead]
        return f"{_key(self.upper, scale)}/{_key(self.lower, scale)}"

    def atoms(self) -> frozenset[str]:
        return frozenset(atom for part in (self.upper, self.lower) for monomial in part for atom, _ in monomial)

    def decimal(self) -> Decimal | None:
        """About 50 right digits where it is a real number of roots, pi and e; None otherwise."""
        return self.sample if all(atom[0] in "rpe" for atom in self.atoms()) else None

    @cached_property
    def sample(self) -> Decimal | None:
        """The same with a whole number in the place of each letter, always the same one; None where it is not real, or
        a function in it has no known value."""
        try:
            with localcontext() as context:
                context.prec = DIGITS
                lower = _value(self.lower)
                return _value(self.upper) / lower if lower else None
        except (ArithmeticError, ValueError):
            return None

    def __add__(self, other: Form) -> Form:
        if self.lower == other.lower:
            return Form(_plus(self.upper, other.upper), self.lower)
        upper = _plus(_times(self.upper, other.lower), _times(other.upper, self.lower))
        return _reduced(upper, _times(self.lower, other.lower))

    def __neg__(self) -> Form:
        return Form({key: -value for key, value in self.upper.items()}, self.lower)

    def __sub__(self, other: Form) -> Form:
        return self + -other

    def __mul__(self, other: Form) -> Form:
        return _reduced(_times(self.upper, other.upper), _times(self.lower, other.lower))

    def __truediv__(self, other: Form) -> Form:
        if not other.upper:
            raise TooHard("division by zero")
        return _reduced(_times(self.upper, other.lower), _times(self.lower, other.upper))


def _reduced(upper: Polynomial, lower: Polynomial) -> Form:
    if lower.keys() == {()} and lower[()] != 1:
        by = lower[()]
        return Form({key: value / by for key, value in upper.items()}, ONE.lower)
    return Form(upper, lower)


def _key(polynomial: Polynomial, scale: Fraction) -> str:
    terms = ("*".join([_shown(polynomial[m] / scale), *(f"{a}^{p}" for a, p in m)]) for m in sorted(polynomial))
    return f"({'+'.join(terms)})"


def _shown(value: Fraction) -> str:
    return f"{value.numerator:x}:{value.denominator:x}"  # hexadecimal: Python refuses to print long decimals


def _value(polynomial: Polynomial) -> Decimal:
    total = Decimal()
    for monomial, factor in polynomial.items():
        term = Decimal(factor.numerator) / Decimal(factor.denominator)
        for atom, power in monomial:
            term *= _atom_value(atom) ** power
        total += term
    return total


def _atom_value(atom: str) -> Decimal:
    """Raises ValueError where there is none."""
    if atom == "p":
        return PI
    if atom == "e":
        return Decimal(1).exp()
    if atom[0] == "r":
        return Decimal(atom[1:]).sqrt()
    if atom[0] == "x":
        return Decimal(3 + crc32(atom.encode()) % 11)
    if atom.startswith("fdigits"):
        digits, _, base = atom.removeprefix("fdigits").partition("_")
        return Decimal(int(digits, int(base)))
    _, mark, value = atom.rpartition("@")
    if not mark:
        raise ValueError(atom)
    return Decimal(value)


ONE = Form({(): Fraction(1)}, {(): Fraction(1)})


def number(value: Fraction | int) -> Form:
    value = _bounded(Fraction(value))
    return Form({(): value} if value else {}, ONE.lower)


def atom(name: str) -> Form:
    return Form({((name, 1),): Fraction(1)}, ONE.lower)


def unknown(name: str, *parts: Form) -> Form:
    """A value of which nothing is known but what it is called and made of, and, of some functions, its sample."""
    key = f"f{name}[{';'.join(part.key for part in parts)}]"
    if len(key) > MAX_KEY:
        raise TooHard("too long a formula")
    sample = sampled(name, [part.sample for part in parts])
    return atom(key if sample is None else f"{key}@{sample}")


def equal(left: Form, right: Form) -> bool | None:
    """Whether two forms are equal; None where that takes more than this arithmetic."""
    if left.number is not None and right.number is not None:
        return left.number == right.number
    try:
        difference = _plus(_times(left.upper, right.lower), _times(right.upper, left.lower), -1)
    except TooHard:
        return True if left.key == right.key else None
    if not difference:
        return True
    return False if is_understood(left, right) or apart(left.sample, right.sample) else None


def is_understood(*forms: Form) -> bool:
    """Whether a difference of these that does not vanish is none."""
    atoms = frozenset[str]().union(*(form.atoms() for form in forms))
    return not any(atom[0] == "f" for atom in atoms) and not {"p", "e"} <= atoms


def proportional(left: Polynomial, right: Polynomial) -> Fraction | None:
    """The number by which `right` times it is `left`; None if there is none."""
    if not left or left.keys() != right.keys():
        return None
    ratios = {left[key] / right[key] for key in left}
    return ratios.pop() if len(ratios) == 1 else None
