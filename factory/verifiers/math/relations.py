"""Equations and inequalities that say the same, and names of values."""

from __future__ import annotations

import re
from collections.abc import Sequence

from factory.verifiers.math import exact
from factory.verifiers.math.exact import Polynomial
from factory.verifiers.math.options import Decision
from factory.verifiers.math.values import Named, Number, Relation, Value

_APPLIED = re.compile(r"([A-Za-z])\([a-z]\)")
_INDEXED = re.compile(r"([A-Za-z])_\{?[0-9]\}?")


def same_name(gold: str, pred: str) -> bool:
    """The variable of a function may be called anything."""
    left, right = _APPLIED.fullmatch(gold), _APPLIED.fullmatch(pred)
    return gold == pred or (left is not None and right is not None and left[1] == right[1])


def without_indices(items: Sequence[Value]) -> Sequence[Value]:
    """The values of x_1 and x_2, which are numbered as anybody likes; other items as they are."""
    matches = [_INDEXED.fullmatch(item.name) if isinstance(item, Named) else None for item in items]
    if len(items) > 1 and all(matches) and len({match[1] for match in matches if match}) == 1:
        return [item.value for item in items if isinstance(item, Named)]
    return items


def as_relation(value: Value) -> Value:
    """A name and its number as an equation; anything else as it is."""
    if isinstance(value, Named) and value.form is not None and isinstance(value.value, Number):
        return Relation("=", value.form, value.value.form)
    return value


def same_relation(gold: Value, pred: Value) -> Decision:
    """Equations that are multiples of each other; inequalities that are positive multiples."""
    if not (isinstance(gold, Relation) and isinstance(pred, Relation)):
        named = isinstance(gold, Named) or isinstance(pred, Named)
        return Decision(None if named else False, "a relation against a value")
    if (gold.sign == "=") != (pred.sign == "="):
        return Decision(False, "relation")
    left, right = gold.left - gold.right, pred.left - pred.right
    if exact.equal(left, right):
        return Decision(gold.sign == pred.sign, "relation")
    ratio = exact.proportional(left.upper, right.upper) if left.lower == right.lower else None
    if ratio is None:
        # Two planes are one only if their equations are multiples of each other.
        planes = exact.is_understood(left, right) and _is_linear(left.upper) and _is_linear(right.upper)
        return Decision(False if planes and left.lower == right.lower == exact.ONE.lower else None, "relation")
    turned = ratio < 0 and gold.sign not in {"=", "\\neq"}
    return Decision(gold.sign == pred.sign and not turned, "relation")


def _is_linear(polynomial: Polynomial) -> bool:
    return any(polynomial) and all(sum(power for _, power in monomial) <= 1 for monomial in polynomial)
