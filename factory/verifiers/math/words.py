"""Words that are numbers, and units by their short names."""

from __future__ import annotations

_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
NUMBER_WORDS = _NUMBER_WORDS.split()

UNIT_NAMES = {
    **dict.fromkeys(("centimeter", "centimetre"), "cm"),
    **dict.fromkeys(("millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("kilometer", "kilometre"), "km"),
    **dict.fromkeys(("meter", "metre"), "m"),
    **dict.fromkeys(("inch", "inches"), "in"),
    **dict.fromkeys(("foot", "feet"), "ft"),
    "gram": "g",
    "kilogram": "kg",
    "pound": "lb",
    "lbs": "lb",
    "mile": "mi",
    "yard": "yd",
    "degree": "°",
    "deg": "°",
    "hour": "h",
    "hr": "h",
    "hrs": "h",
    "minute": "min",
    "second": "s",
    "sec": "s",
    "day": "d",
    "dollar": "usd",
}
"""Short names of units."""
UNITS = frozenset(UNIT_NAMES.values())
"""Units that are told apart; other words behind a number may mean the same."""


def unit_name(words: str) -> str:
    """One spelling of a unit: short, without its plural and the signs of its power."""
    words = words.replace("^", "").replace("{", "").replace("}", "").replace("\\circ", "°").replace("*", "")
    word, power = (words[:-1], words[-1]) if words[-1:] in {"2", "3"} else (words, "")
    singular = word.removesuffix("s") if len(word) > 3 else word
    return UNIT_NAMES.get(word, UNIT_NAMES.get(singular, singular)) + power
