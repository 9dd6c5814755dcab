"""What an answer says, as plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from factory.verifiers.math.exact import Form


@dataclass(frozen=True, slots=True)
class Number:
    """A number or a formula."""

    form: Form
    digits: int = 0
    """Significant digits of a number written with a decimal point; 0 for anything else."""
    places: int = 0
    """Of those, behind the point."""
    percent: bool = False
    unit: str = ""
    """What stands behind the number, lower case, by its short name if it has one."""
    comma: bool = False
    """Read with a decimal comma: true only of a number that someone writes with a point."""


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    text: str
    """Lower case, single spaces."""


@dataclass(frozen=True, slots=True)
class Group:
    """Several values."""

    kind: str
    """`list` (no brackets), `set`, `(`, `[`, `ratio`, `union`."""
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """From one bound to another; infinity is a letter like others."""

    low: Form
    high: Form
    closed: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of values, all of one length."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation or inequality that is about more than one name's value."""

    sign: str
    """`=`, `<`, `\\leq` or `\\neq`; `>` is turned round."""
    left: Form
    right: Form


@dataclass(frozen=True, slots=True)
class Named:
    """A value that is said to be a name's: x = 5, f(x) = 2x, x in (0, 1), (p, q) = (3, 2)."""

    name: str
    form: Form | None
    """The name as a formula; None where it is none, such as a tuple."""
    value: Value


@dataclass(frozen=True, slots=True)
class Opaque:
    """What takes algebra, or more; equal to what is written alike."""

    key: str
    broken: bool = False
    """Algebra would not help."""
    relates: bool = False
    """A sign such as = or < stands in it, outside of brackets."""


Value = Number | Text | Group | Interval | Matrix | Relation | Named | Opaque
