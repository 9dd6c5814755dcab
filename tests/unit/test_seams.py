"""What is read for the cuts of a turn, and what the numbers mean: by hand-made tokens and log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from factory.prune.base import Cut
from factory.prune.seams import Unit, evidence_of, reading_of, seams_of, units_of
from factory.types import Node
from tests.unit.run_folders import step

WORDS = ["<s>", "I", " try", " it", ".", " No", " good", " So", " 37"]


def decode(ids: Sequence[int]) -> str:
    """As tokenizers of whole words do it: what begins a text loses the space before it."""
    return "".join(WORDS[one] for one in ids).removeprefix(" ")


def encode(text: str) -> tuple[int, ...]:
    """Letter by letter, from 1,000 on."""
    return tuple(1000 + ord(letter) for letter in text)


def letters(ids: Sequence[int]) -> str:
    return "".join(chr(one - 1000) for one in ids)


def by_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", "replace")


def turn(*parts: tuple[str, tuple[int, ...] | None]) -> list[Node]:
    return [step(place, place - 1, text, token_ids=ids) for place, (text, ids) in enumerate(parts, start=1)]


def test_units_are_the_sampled_tokens_with_their_places() -> None:
    units = units_of(turn((" I try", (1, 2)), (" it.", (3, 4))), decode, encode)
    assert units == [Unit(0, 2, (1,)), Unit(2, 6, (2,)), Unit(6, 9, (3,)), Unit(9, 10, (4,))]


def test_tokens_of_one_character_stay_together() -> None:
    text = "é😀!"
    units = units_of(turn((text, tuple(text.encode()))), by_bytes, encode)
    assert [(unit.start, unit.end, len(unit.ids)) for unit in units] == [(0, 1, 2), (1, 2, 4), (2, 3, 1)]


def test_text_without_ids_or_of_another_model_is_tokenised() -> None:
    assert [one.ids for one in units_of(turn(("ab", None)), letters, encode)] == [(1097,), (1098,)]
    assert [one.ids for one in units_of(turn(("ab", (1, 2))), letters, encode, sampled=False)] == [(1097,), (1098,)]


@pytest.mark.parametrize("text", ["I tried", "You try", "I try it"])
def test_ids_that_do_not_spell_the_text_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="token ids spell 'I try'"):
        units_of(turn((text, (1, 2))), decode, encode)


def test_no_ids_spell_no_text() -> None:
    assert units_of(turn(("", ())), decode, encode) == []
    with pytest.raises(ValueError, match="token ids spell ''"):
        units_of(turn((" ", ())), decode, encode)


def units(text: str) -> list[Unit]:
    """A token a letter."""
    return units_of(turn((text, None)), letters, encode)


def test_windows_end_where_the_next_cut_begins() -> None:
    text = "aaXXbbbbYYcc"
    reading = reading_of(text, units(text), [Cut(2, 4, "x"), Cut(8, 10, "y")], 3, encode)
    assert letters(reading.whole) == text
    assert letters(reading.left) == "aabbbbcc"
    assert [(one.start, one.whole, one.left, one.texts) for one in reading.windows] == [
        (4, 4, 2, ("b", "b", "b")),
        (10, 10, 6, ("c", "c")),
    ]
    assert (reading.whole_places, reading.left_places) == ([4, 5, 6, 10, 11], [2, 3, 4, 6, 7])


def test_cuts_that_touch_share_what_is_behind_them() -> None:
    text = "aXYb"
    first, second = reading_of(text, units(text), [Cut(1, 2, "x"), Cut(2, 3, "y")], 8, encode).windows
    assert first == second
    assert first.texts == ("b",)


def test_a_cut_through_a_token_leaves_the_rest_of_it_uncompared() -> None:
    text = "I try it. No"
    given = units_of(turn((text, (1, 2, 3, 4, 5))), decode, encode)
    reading = reading_of(text, given, [Cut(4, 7, "x")], 8, encode)  # from within " try" into " it"
    assert reading.left == (1, *encode(" tr"), *encode("t"), 4, 5)
    assert reading.windows[0].texts == (".", " No")
    assert [reading.whole[reading.windows[0].whole + i] for i in range(2)] == [4, 5]
    assert [reading.left[reading.windows[0].left + i] for i in range(2)] == [4, 5]


def test_nothing_behind_a_cut_is_not_tested() -> None:
    text = "aX"
    reading = reading_of(text, units(text), [Cut(1, 2, "x")], 8, encode)
    (seam,) = seams_of(reading, {}, {})
    assert (seam.untested, seam.tokens, seam.largest) == ("nothing stands behind it", 0, None)


def test_the_token_that_loses_most_is_told_with_the_mean() -> None:
    text = "aXbcd"
    reading = reading_of(text, units(text), [Cut(1, 2, "x")], 8, encode)
    whole, left = {2: -0.5, 3: -1.0, 4: -2.0}, {1: -1.0, 2: -9.0, 3: -0.5}
    (seam,) = seams_of(reading, whole, left)
    assert (seam.untested, seam.tokens, seam.largest) == (None, 3, 8.0)
    assert seam.drop == pytest.approx(7.0 / 3)
    told = evidence_of(reading.windows[0], whole, left)
    assert told == "without it 'c' behind it is 8.0 nats less likely, 2.33 a token over 3"


def test_what_is_impossible_in_both_texts_is_no_loss() -> None:
    text = "aXb"
    reading = reading_of(text, units(text), [Cut(1, 2, "x")], 8, encode)
    (both,) = seams_of(reading, {2: -math.inf}, {1: -math.inf})
    (one,) = seams_of(reading, {2: 0.0}, {1: -math.inf})
    assert (both.largest, one.largest) == (0.0, 50.0)
