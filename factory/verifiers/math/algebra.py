"""What takes algebra, decided by sympy on what math-verify's grammar reads. Runs as a program in a sandbox.

The text of this module is the program, and `equal` is what is called; it needs nothing of the factory, and it may hang
or grow, since its process can be killed. Only the reading is math-verify's. Its comparison is not used, because it
takes numbers for equal that agree in 15 digits behind the point (1/2004! and 1/2006!), compares the values of equations
alone, and matches lists that it has sorted by chance. Here

- both sides must be read, and be things of one kind: an equation is never held against a number;
- numbers that differ are told apart by their leading digits, relative to their size, and numbers that agree must be
  shown to be equal by simplification, or agree in 1,000 digits;
- formulas that differ at a point of whole numbers differ; formulas that do not must be shown to be equal;
- of lists and matrices each part must have its own equal.

What is shown neither equal nor different is None.
"""

from __future__ import annotations

import logging
import re
from importlib import import_module
from typing import Any

DIGITS = 60
"""Of a first look at numbers."""
MANY_DIGITS = 1000
"""Of numbers that are taken for equal without a proof."""
POINTS = ((7, 3, 5, 11, 2, 13), (2, 9, 4, 3, 8, 5), (12, 5, 23, 6, 3, 4))
"""What letters, in the order of the alphabet, are replaced with."""
FLOAT = re.compile(r"[-+]?[0-9]*\.[0-9]+")
BARE_LOG = re.compile(r"(?<![a-z])log(?!\s*_|[a-z])")
BASED_LOG = re.compile(r"(?<![a-z])(?:log\s*_|ln(?![a-z])|lg(?![a-z]))")
FLOAT_DIGITS = 12
"""A number with a point and as many digits is taken for a printed float, if the other one has no point."""

Found = tuple[bool | None, str]
"""Whether two things are equal, and by which rule."""


def equal(gold: str, pred: str, options: dict[str, Any]) -> Found:
    """`options`: `tolerance` and `rounding`, as in the module `options`."""
    left, right = parsed(gold), parsed(pred)
    if left is None or right is None:
        return None, "not read"
    written = [text for text in (gold, pred) if FLOAT.fullmatch(text.strip().strip("$"))]
    near = dict(options)
    if len(written) == 1 and len(re.sub("[^0-9]", "", written[0]).lstrip("0")) >= FLOAT_DIGITS:
        near["places"] = len(written[0].strip().strip("$").partition(".")[2])
    try:
        if BARE_LOG.search(f"{gold} {pred}"):
            based = BASED_LOG.search(f"{gold} {pred}") is not None
            return (None, "a logarithm without a base") if based else _same_to_any_base(left, right, near)
        return _same(left, right, near)
    except (TypeError, ValueError, AttributeError, NotImplementedError, ArithmeticError, RecursionError) as error:
        return None, f"{type(error).__name__} in algebra"


def _same_to_any_base(left: Any, right: Any, options: dict[str, Any]) -> Found:
    """A logarithm without a base is to 10 or to e: what is decided must hold for both."""
    sympy = import_module("sympy")
    natural = [side.replace(sympy.log, lambda argument, *_: sympy.log(argument)) for side in (left, right)]
    ten = sympy.log(10)
    common = [side.replace(sympy.log, lambda argument: sympy.log(argument) / ten) for side in natural]
    first, second = _same(natural[0], natural[1], options), _same(common[0], common[1], options)
    return first if first[0] is second[0] else (None, "a logarithm without a base")


def parsed(text: str) -> Any:
    """What math-verify's grammar makes of an answer, with exact numbers; None if it makes nothing of it."""
    logging.disable(logging.WARNING)
    math_verify = import_module("math_verify")
    config = [math_verify.LatexExtractionConfig()]  # its other grammar evaluates text as Python
    plain = text.replace("$", "")
    found = math_verify.parse(f"${plain}$", config, fallback_mode="no_fallback", parsing_timeout=None)
    if not found or isinstance(found[0], str):
        return None
    thing = _exact(found[0])
    # Where it cannot read an equation it reads the last side of it, which is another thing.
    return None if _has_equals(plain) and isinstance(thing, import_module("sympy").Expr) else thing


def _has_equals(text: str) -> bool:
    """Whether an equals sign stands outside of braces."""
    depth = 0
    for sign in text:
        depth += (sign == "{") - (sign == "}")
        if sign == "=" and depth == 0:
            return True
    return False


def _exact(thing: Any) -> Any:
    sympy = import_module("sympy")
    try:
        floats = thing.atoms(sympy.Float)
        return thing.xreplace({one: sympy.Rational(str(one)) for one in floats}) if floats else thing
    except AttributeError:
        return thing


def _same(left: Any, right: Any, options: dict[str, Any]) -> Found:
    sympy = import_module("sympy")
    if isinstance(left, sympy.MatrixBase | sympy.MatrixExpr) or isinstance(right, sympy.MatrixBase | sympy.MatrixExpr):
        return _matrices(left, right, options)
    if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr):
        return _formulas(left, right, options)
    if isinstance(left, sympy.Eq) and isinstance(right, sympy.Eq):
        return _equations(left, right, options)
    if isinstance(left, sympy.Eq) and isinstance(left.lhs, sympy.Symbol) and isinstance(right, sympy.Expr):
        return _formulas(left.rhs, right, options)  # y = f(x) against f(x)
    if isinstance(right, sympy.Eq) and isinstance(right.lhs, sympy.Symbol) and isinstance(left, sympy.Expr):
        return _formulas(left, right.rhs, options)
    if isinstance(left, sympy.FiniteSet | sympy.Tuple) and isinstance(right, sympy.FiniteSet | sympy.Tuple):
        return _several(left, right, options)
    if isinstance(left, sympy.Set) and isinstance(right, sympy.Set):
        return _sets(left, right)
    if type(left) is type(right) and left == right:
        return True, "same in algebra"
    return None, "not compared in algebra"


# --- numbers and formulas


def _formulas(left: Any, right: Any, options: dict[str, Any]) -> Found:
    if left == right:
        return True, "same in algebra"
    left, right = left.doit(), right.doit()
    if not left.free_symbols | right.free_symbols:
        return _numbers(left, right, options)
    if _differs_somewhere(left, right):
        return False, "differs at a point"
    return (True, "simplified") if _vanishes(left - right) else (None, "not simplified")


def _numbers(left: Any, right: Any, options: dict[str, Any]) -> Found:
    first, second = left.evalf(DIGITS), right.evalf(DIGITS)
    if not (first.is_number and second.is_number and first.is_finite and second.is_finite):
        return None, "no finite number"
    gap = abs(first - second)
    if gap > max(abs(first), abs(second)) * _small(DIGITS // 2):
        return _near(first, gap, second, options) or (False, "differs in leading digits")
    if _vanishes(left - right):
        return True, "simplified"
    first, second = left.evalf(MANY_DIGITS), right.evalf(MANY_DIGITS)
    if abs(first - second) <= max(abs(first), abs(second)) * _small(MANY_DIGITS - 20):
        return True, f"equal in {MANY_DIGITS} digits"
    return False, "differs in leading digits"


def _near(gold: Any, gap: Any, pred: Any, options: dict[str, Any]) -> Found | None:
    sympy = import_module("sympy")
    if options.get("tolerance") is not None and gap <= sympy.Rational(str(options["tolerance"])) * abs(gold):
        return True, "tolerance"
    places = options.get("rounding")
    if places is not None and gold.is_real and pred.is_real and gold.round(places) == pred.round(places):
        return True, "rounding"
    if options.get("places") is not None and gap <= sympy.Rational(1, 10 ** options["places"]):
        return True, "printed float"
    return None


def _small(digits: int) -> Any:
    sympy = import_module("sympy")
    return sympy.Rational(1, 10**digits)


def _vanishes(difference: Any) -> bool:
    sympy = import_module("sympy")
    steps = (sympy.expand, sympy.trigsimp, sympy.simplify, lambda one: sympy.simplify(one.rewrite(sympy.exp)))
    return any(step(difference) == 0 for step in steps)


def _differs_somewhere(left: Any, right: Any) -> bool:
    letters = sorted(left.free_symbols | right.free_symbols, key=str)
    for point in POINTS:
        values = {letter: point[place % len(point)] + place // len(point) for place, letter in enumerate(letters)}
        first, second = left.subs(values).doit().evalf(DIGITS), right.subs(values).doit().evalf(DIGITS)
        if not (first.is_number and second.is_number and first.is_finite and second.is_finite):
            continue
        if abs(first - second) > max(abs(first), abs(second), 1) * _small(DIGITS // 2):
            return True
    return False


# --- equations, lists, sets, matrices


def _equations(left: Any, right: Any, options: dict[str, Any]) -> Found:
    """Equal if side is equal to side, or if both hold for the same values: then both have the same factors."""
    sides = _formulas(left.lhs, right.lhs, {})[0], _formulas(left.rhs, right.rhs, options)[0]
    if sides == (True, True):
        return True, "same sides"
    if sides[0] is True and not left.lhs.is_number:
        return sides[1], "same left side"
    first, second = _factors(left.lhs - left.rhs), _factors(right.lhs - right.rhs)
    if first is None or second is None:
        return None, "no polynomials"
    return first == second, "factors"


def _factors(difference: Any) -> frozenset[Any] | None:
    sympy = import_module("sympy")
    upper = sympy.numer(sympy.together(difference))
    if not upper.is_polynomial() or not upper.free_symbols:
        return None
    letters = sorted(upper.free_symbols, key=str)
    return frozenset(sympy.Poly(one, *letters).monic() for one, _ in sympy.factor_list(upper, *letters)[1])


def _several(left: Any, right: Any, options: dict[str, Any]) -> Found:
    sympy = import_module("sympy")
    if type(left) is not type(right) and not (isinstance(left, sympy.FiniteSet) and isinstance(right, sympy.FiniteSet)):
        return None, "other brackets"
    if len(left.args) != len(right.args):
        return False, "other number of items"
    if isinstance(left, sympy.FiniteSet):
        return _paired(list(left.args), list(right.args), options), "any order"
    return _all([_same(one, other, options)[0] for one, other in zip(left.args, right.args, strict=True)]), "in order"


def _paired(left: list[Any], right: list[Any], options: dict[str, Any]) -> bool | None:
    undecided = False
    for one in left:
        found = [_same(one, other, options)[0] for other in right]
        if True in found:
            del right[found.index(True)]
        elif None in found:
            undecided = True
        else:
            return False
    return None if undecided else True


def _sets(left: Any, right: Any) -> Found:
    if left == right:
        return True, "same set"
    rest = left.symmetric_difference(right)
    if rest.is_empty is None:
        return None, "not compared in algebra"
    return bool(rest.is_empty), "symmetric difference"


def _matrices(left: Any, right: Any, options: dict[str, Any]) -> Found:
    left, right = left.doit(), right.doit()
    if getattr(left, "shape", None) is None or getattr(left, "shape", None) != getattr(right, "shape", None):
        return False, "other shape"
    rows, columns = left.shape
    cells = [(left[row, column], right[row, column]) for row in range(rows) for column in range(columns)]
    return _all([_formulas(one, other, options)[0] for one, other in cells]), "matrix"


def _all(found: list[bool | None]) -> bool | None:
    if False in found:
        return False
    return None if None in found else True
