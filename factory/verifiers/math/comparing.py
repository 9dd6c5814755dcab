"""Whether two answers say the same, by exact rules, and which rule decided. The options are those of `options`.

Undecided is what takes algebra, and what nobody can say. Nothing is rounded here but where an option asks for it, with
one exception: `printed float`, below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction

from factory.verifiers.math import exact
from factory.verifiers.math.choices import same_choice
from factory.verifiers.math.exact import Form, TooHard
from factory.verifiers.math.options import DEFAULT, Decision, Options
from factory.verifiers.math.pointsets import as_interval, same_points
from factory.verifiers.math.reading import read
from factory.verifiers.math.relations import as_relation, same_name, same_relation, without_indices
from factory.verifiers.math.tokens import Unreadable, spelled, text_key, tokens
from factory.verifiers.math.values import Group, Interval, Matrix, Named, Number, Opaque, Relation, Text, Value
from factory.verifiers.math.words import UNITS

FLOAT_DIGITS = 12
"""Significant digits from which a decimal is taken for a printed float."""


SAME_TEXT = Decision(True, "same text")


def compare(gold: str, pred: str, options: Options = DEFAULT) -> Decision:
    """Hold an answer against the reference."""
    try:
        found = tokens(gold), tokens(pred)
    except Unreadable as error:
        same = len(gold) == len(pred) and spelled(gold).strip() == spelled(pred).strip()
        return SAME_TEXT if same else Decision(None, f"unreadable: {error}")
    if not found[0] or not found[1]:
        return Decision(None if not found[0] else False, "empty")
    if text_key(found[0]) == text_key(found[1]):
        return SAME_TEXT
    if (choice := same_choice(*found)) is not None:
        return choice
    return _best(read(gold), read(pred), options)


def _best(golds: Sequence[Value], preds: Sequence[Value], options: Options) -> Decision:
    """Equal if any two readings are; different if all differ."""
    comparison = _Comparison(options)
    undecided: Decision | None = None
    different: Decision | None = None
    for gold in golds:
        for pred in preds:
            found = comparison.decide(gold, pred)
            if found.equal:
                return found
            if found.equal is None:
                undecided = undecided or _asking(found, gold, pred)
            different = different or found
    return undecided or different or Decision(None, "nothing to compare")


_ASK = frozenset(
    (
        *("takes algebra", "not understood", "too hard", "relation", "union", "matrix", "interval"),
        *("any order", "in order", "by name"),
    )
)
"""Rules that leave to algebra what they do not decide."""


def _asking(found: Decision, gold: Value, pred: Value) -> Decision:
    ask = found.rule in _ASK and not _is_broken(gold) and not _is_broken(pred)
    if isinstance(gold, Opaque) or isinstance(pred, Opaque):
        several = isinstance(gold, Group | Interval) or isinstance(pred, Group | Interval)
        ask = ask and _relates(gold) == _relates(pred) and not several
    return Decision(None, found.rule, ask)


def _relates(value: Value) -> bool:
    """Whether a value says something of something, so that it cannot be compared with one that does not."""
    if isinstance(value, Opaque):
        return value.relates
    return isinstance(value, Relation | Named)


def _is_broken(value: Value) -> bool:
    if isinstance(value, Group):
        return any(_is_broken(item) for item in value.items)
    if isinstance(value, Named):
        return _is_broken(value.value)
    return isinstance(value, Opaque) and value.broken


_CONFUSED = ({"set", "("}, {"set", "["})
"""Brackets that people mean differently, so that the same items in them are no agreement yet."""


class _Comparison:
    """The rules under one set of options. Each takes reference and answer."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def decide(self, gold: Value, pred: Value) -> Decision:
        try:
            return self._decide(gold, pred)
        except TooHard:
            return Decision(None, "too hard")

    def same(self, gold: Value, pred: Value) -> bool | None:
        return self.decide(gold, pred).equal

    def _decide(self, gold: Value, pred: Value) -> Decision:
        if isinstance(gold, Opaque) or isinstance(pred, Opaque):
            same = isinstance(gold, Opaque) and isinstance(pred, Opaque) and gold.key == pred.key
            return Decision(True if same else None, "same text" if same else "not understood")
        if isinstance(gold, Named) or isinstance(pred, Named):
            return self._named(gold, pred)
        if isinstance(gold, Relation) or isinstance(pred, Relation):
            return same_relation(gold, pred)
        if isinstance(gold, Number) and isinstance(pred, Number):
            return self._numbers(gold, pred)
        if isinstance(gold, Text) or isinstance(pred, Text):
            return Decision(_same_words(gold, pred), "words")
        if isinstance(gold, Matrix) or isinstance(pred, Matrix):
            return self._matrices(gold, pred)
        if isinstance(gold, Interval) or isinstance(pred, Interval):
            return self._intervals(gold, pred)
        if isinstance(gold, Group) and isinstance(pred, Group):
            return self._groups(gold, pred)
        return self._one_and_many(gold, pred)

    # --- numbers

    def _numbers(self, gold: Number, pred: Number) -> Decision:
        if gold.comma or pred.comma:
            return self._decimal_comma(gold, pred)
        if self.options.units == "require" and (gold.unit != pred.unit):
            return Decision(False, "units differ")
        found = self._percents(gold, pred)
        if gold.unit and pred.unit and gold.unit != pred.unit:
            return Decision(_across_units(gold, pred, found.equal), "units differ")
        return found

    def _decimal_comma(self, gold: Number, pred: Number) -> Decision:
        """Holds only where the other side shows that a decimal is meant."""
        pointed = (gold.comma and pred.digits > 0) or (pred.comma and gold.digits > 0)
        same = pointed and exact.equal(gold.form, pred.form) is True
        return Decision(same, "decimal comma")

    def _percents(self, gold: Number, pred: Number) -> Decision:
        if gold.percent == pred.percent:
            return self._forms(gold, pred)
        if self.options.percent == "sign":
            return Decision(False, "percent")
        hundredth = exact.number(Fraction(1, 100))
        as_value = self._forms(
            Number(gold.form * hundredth, gold.digits, gold.places + 2) if gold.percent else gold,
            Number(pred.form * hundredth, pred.digits, pred.places + 2) if pred.percent else pred,
        )
        if as_value.equal or self.options.percent == "value":
            return Decision(as_value.equal, "percent")
        return Decision(self._forms(gold, pred).equal, "percent")

    def _forms(self, gold: Number, pred: Number) -> Decision:
        found = exact.equal(gold.form, pred.form)
        rational = gold.form.number is not None and pred.form.number is not None
        rule = "exact number" if rational else "exact formula"
        if found is not False:
            return Decision(found, rule if found else "takes algebra")
        near = self._near(gold, pred)
        return near or Decision(False, rule)

    def _near(self, gold: Number, pred: Number) -> Decision | None:
        """Equal for all that rounding and tolerance ask for."""
        left, right = _measured(gold.form), _measured(pred.form)
        if left is None or right is None:
            return None
        gap = abs(left - right)
        if self.options.tolerance is not None and gap <= Fraction(self.options.tolerance) * abs(left):
            return Decision(True, "tolerance")
        if self.options.rounding is not None:
            unit = Fraction(1, 10**self.options.rounding)
            if _rounded(left, unit) == _rounded(right, unit):
                return Decision(True, "rounding")
        written = [one for one in (gold, pred) if one.digits]
        if len(written) == 1 and written[0].digits >= FLOAT_DIGITS and gap <= Fraction(1, 10 ** written[0].places):
            return Decision(True, "printed float")
        return None

    # --- names and relations

    def _named(self, gold: Value, pred: Value) -> Decision:
        if isinstance(gold, Relation) or isinstance(pred, Relation):
            return same_relation(as_relation(gold), as_relation(pred))
        if not (isinstance(gold, Named) and isinstance(pred, Named)):
            left = gold.value if isinstance(gold, Named) else gold
            right = pred.value if isinstance(pred, Named) else pred
            return self._decide(left, right)
        found = self._decide(gold.value, pred.value)
        if same_name(gold.name, pred.name):
            return found
        if same_relation(as_relation(gold), as_relation(pred)).equal:
            return Decision(True, "relation")
        return Decision(None if found.equal is not False else False, "names differ")

    # --- several values

    def _one_and_many(self, gold: Value, pred: Value) -> Decision:
        """A number against a list, a set of one against its element."""
        many, one = (gold, pred) if isinstance(gold, Group) else (pred, gold)
        if isinstance(many, Group) and len(many.items) == 1:
            ordered = (many.items[0], one) if many is gold else (one, many.items[0])
            return Decision(self.same(*ordered), "set of one")
        return Decision(False, "one against several")

    def _groups(self, gold: Group, pred: Group) -> Decision:
        kinds = {gold.kind, pred.kind}
        if "ratio" in kinds or "union" in kinds:
            return self._ratios_and_unions(gold, pred, kinds)
        if kinds == {"(", "["} and len(gold.items) == 2:
            return Decision(False, "interval")
        left, right = without_indices(gold.items), without_indices(pred.items)
        if kinds == {"set"} or (kinds <= {"set", "list"} and all(isinstance(item, Group) for item in (*left, *right))):
            left, right = self._unique(left), self._unique(right)
        if (named := self._by_name(left, right)) is not None:
            return named
        if self.options.order == "any" or (kinds <= {"set", "list"} and self.options.order == "as written"):
            return Decision(self._any_order(left, right), "any order")
        in_order = self._in_order(left, right)
        if in_order is not False and (kinds in _CONFUSED or (kinds == {"[", "list"} and len(left) == 2)):
            return Decision(None, "other brackets")
        if in_order is False and len(kinds) == 2 and self._any_order(left, right) is not False:
            return Decision(None, "other order")
        return Decision(in_order, "in order")

    def _by_name(self, gold: Sequence[Value], pred: Sequence[Value]) -> Decision | None:
        """Where both sides say of the same names what they are."""
        left = {item.name: item.value for item in gold if isinstance(item, Named)}
        right = {item.name: item.value for item in pred if isinstance(item, Named)}
        if len(left) < len(gold) or len(right) < len(pred) or left.keys() != right.keys():
            return None
        return Decision(_all(self.same(left[name], right[name]) for name in left), "by name")

    def _ratios_and_unions(self, gold: Group, pred: Group, kinds: set[str]) -> Decision:
        if kinds == {"ratio"}:
            return self._ratios(gold, pred)
        if kinds == {"union"}:
            # One set can be written as a union in several ways.
            return Decision(self._any_order(gold.items, pred.items) or same_points(gold, pred), "union")
        return Decision(same_points(gold, pred) if "union" in kinds else False, "one against several")

    def _ratios(self, gold: Group, pred: Group) -> Decision:
        if len(gold.items) != len(pred.items):
            return Decision(False, "ratio")
        numbers = [item.form for item in (*gold.items, *pred.items) if isinstance(item, Number)]
        if len(numbers) < 2 * len(gold.items):
            return Decision(self._in_order(gold.items, pred.items), "ratio")
        left, right = numbers[: len(gold.items)], numbers[len(gold.items) :]
        return Decision(_all(exact.equal(a * right[0], b * left[0]) for a, b in zip(left, right, strict=True)), "ratio")

    def _in_order(self, gold: Sequence[Value], pred: Sequence[Value]) -> bool | None:
        if len(gold) != len(pred):
            return False
        return _all(self.same(a, b) for a, b in zip(gold, pred, strict=True))

    def _any_order(self, gold: Sequence[Value], pred: Sequence[Value]) -> bool | None:
        """Whether each of the one has its own equal in the other."""
        if len(gold) != len(pred):
            return False
        left, undecided = list(pred), False
        for item in gold:
            found = [self.same(item, other) for other in left]
            if True in found:
                del left[found.index(True)]
            elif None in found:
                undecided = True
            else:
                return False
        return None if undecided else True

    def _unique(self, items: Sequence[Value]) -> tuple[Value, ...]:
        """Without repetition, which sets do not know; neither do lists of tuples, which are solutions."""
        found: list[Value] = []
        for item in items:
            if not any(self.same(other, item) for other in found):
                found.append(item)
        return tuple(found)

    def _matrices(self, gold: Value, pred: Value) -> Decision:
        left, right = _rows(gold), _rows(pred)
        if left is None or right is None:
            return Decision(False, "matrix")
        if len(left) != len(right) or len(left[0]) != len(right[0]):
            return Decision(False, "matrix")
        pairs = [self._in_order(a, b) for a, b in zip(left, right, strict=True)]
        return Decision(_all(pairs), "matrix")

    def _intervals(self, gold: Value, pred: Value) -> Decision:
        left, right = as_interval(gold), as_interval(pred)
        if left is None or right is None:
            union = any(isinstance(side, Group) and side.kind in {"union", "set"} for side in (gold, pred))
            return Decision(same_points(gold, pred) if union else False, "interval")
        if left.closed != right.closed:
            return Decision(False, "interval")
        bounds = (Number(left.low), Number(right.low)), (Number(left.high), Number(right.high))
        return Decision(_all(self.same(a, b) for a, b in bounds), "interval")


def _across_units(gold: Number, pred: Number, equal: bool | None) -> bool | None:
    """Five metres are not five feet, and may be five hundred centimetres; five boys may be five children."""
    told_apart = gold.unit.rstrip("23") in UNITS and pred.unit.rstrip("23") in UNITS
    if told_apart:
        return False if equal else None
    return None if equal else equal


def _all(found: Iterable[bool | None]) -> bool | None:
    """True if all are; False if any is; None otherwise."""
    undecided = False
    for one in found:
        if one is False:
            return False
        undecided |= one is None
    return None if undecided else True


def _measured(form: Form) -> Fraction | None:
    """Its value as a fraction, exact or to about 50 digits; None where it is no real number that is understood."""
    if form.number is not None:
        return form.number
    value: Decimal | None = form.decimal()
    return None if value is None else Fraction(value)


def _rounded(value: Fraction, unit: Fraction) -> int:
    return (abs(value) / unit + Fraction(1, 2)).__floor__() * (-1 if value < 0 else 1)


def _same_words(gold: Value, pred: Value) -> bool | None:
    """One word is another or is not; several may mean the same as others, or as the empty set, or infinity."""
    if isinstance(gold, Text) and isinstance(pred, Text):
        return gold == pred or (None if " " in gold.text + pred.text else False)
    other = pred if isinstance(gold, Text) else gold
    may_be_meant = other == Group("set", ()) or (isinstance(other, Number) and exact.INFINITY in other.form.atoms())
    return None if may_be_meant else False


def _rows(value: Value) -> Sequence[Sequence[Value]] | None:
    """The rows of a matrix; a tuple is a column."""
    if isinstance(value, Matrix):
        return value.rows
    if isinstance(value, Group) and value.kind == "(":
        return [(item,) for item in value.items]
    return None
