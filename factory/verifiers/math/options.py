"""How strict a comparison is, and what comes of one.

The options of a check; the first that is named is the default:

`order`: `as written` (tuples keep their order; lists without brackets, sets and unions have none), `keep` (lists have
one, too), `any` (nothing has).
`units`: `strip` (a unit may be missing on one side; two that differ are two answers) or `require` (it may not).
`percent`: `either` (50% is 50, and it is 0.5), `value` (it is 0.5), `sign` (it is 50%, and nothing else is).
`tolerance`: None, or how far a number may be off, relative to the reference.
`rounding`: None, or how many decimals count: both sides are rounded to as many (halves up) before they are compared.

Even where nothing is rounded, a number written with 12 significant digits or more is taken for a printed float, where
the other side is written exactly: 1.4142135623730951 is the root of 2. Two numbers with points are compared exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

ORDERS = ("as written", "keep", "any")
UNITS = ("strip", "require")
PERCENTS = ("either", "value", "sign")


@dataclass(frozen=True, slots=True)
class Options:
    """How strict a comparison is; see above."""

    order: str = "as written"
    units: str = "strip"
    percent: str = "either"
    tolerance: float | None = None
    rounding: int | None = None


DEFAULT = Options()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether two answers are equal (None: undecided), and the rule that says so."""

    equal: bool | None
    rule: str
    ask: bool = False
    """Undecided, but algebra might know."""
