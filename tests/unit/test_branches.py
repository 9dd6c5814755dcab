"""The attempts of a chain as a tree: replayed where the game is known, else read by rules."""

from itertools import pairwise

import pytest

from factory.prune.branches import branches
from factory.types import Check, Message, Problem

GAME = Problem(
    "g", (Message("user", "make 42"),), None, (Check("countdown", {"numbers": [3, 7, 12, 25], "target": 42}),), "s"
)
FREE = Problem("f", (Message("user", "What is 2 + 2?"),), None, (), "s")

NESTED = """<think>
try 25 - 12 = 13 left 3 7 13
try 13 - 7 = 6 left 3 6
dead
back 3 7 13
try 13 - 3 = 10 left 7 10
dead
back 3 7 12 25
wait
try 25 - 7 = 18 left 3 12 18
</think>
answer 1"""


def outline(problem: Problem, text: str) -> list[tuple[str, int | None, str | None]]:
    """First line, parent and evidence of each attempt."""
    found = branches(problem, text)
    return [(text[one.start : one.end].splitlines()[0], one.parent, one.given_up) for one in found]


def test_tries_hang_below_the_try_whose_numbers_they_take() -> None:
    last = f"'back 3 7 12 25' at {NESTED.index('back 3 7 12 25')}"
    assert outline(GAME, NESTED) == [
        ("try 25 - 12 = 13 left 3 7 13", None, last),
        ("try 13 - 7 = 6 left 3 6", 0, f"'back 3 7 13' at {NESTED.index('back 3 7 13')}"),
        ("try 13 - 3 = 10 left 7 10", 0, last),
        ("try 25 - 7 = 18 left 3 12 18", None, None),
    ]


def test_what_follows_a_try_belongs_to_it() -> None:
    found = branches(GAME, NESTED)
    assert NESTED[found[1].start : found[1].end] == "try 13 - 7 = 6 left 3 6\ndead\nback 3 7 13\n"
    assert found[0].start == NESTED.index("try")
    assert found[-1].end == NESTED.index("</think>")
    assert all(one.end == after.start for one, after in pairwise(found))


def test_a_line_that_was_left_says_why() -> None:
    dead = "Let me try adding 5 and 6 first. So 5 + 6 = 11. That doesn't work.\n\n"
    text = f"<think>\nWe have to find 2 + 2.\n\n{dead}Let me try another approach. 2 * 2 = 4.\n</think>\n\n4"
    found = branches(FREE, text)
    left = [one for one in found if one.given_up is not None]
    assert [text[one.start : one.end] for one in left] == [dead]
    assert "doesn't work" in str(left[0].given_up)
    assert left[0].phrase == "Let me try"


def test_a_second_beginning_gives_all_before_it_up() -> None:
    text = "First I add 5 and 6.\nThat is 11.\nSo I get 11.\nLet me start over.\n2 + 2 = 4.\nThe answer is 4."
    found = branches(FREE, text)
    assert found[0].given_up is not None
    assert "a second beginning" in found[0].given_up
    assert found[-1].given_up is None
    assert found[-1].parent == 0


def test_a_named_return_within_a_line_hangs_below_it() -> None:
    text = "3 7 12\n3 + 7 = 10, left 10 12\n10 + 12 = 22\nback to 10 12\n12 - 10 = 2\nThe answer is 2."
    found = branches(FREE, text)
    assert [text[one.start : one.end] for one in found if one.given_up] == ["10 + 12 = 22\nback to 10 12\n"]
    assert [one.parent for one in found] == [None, 0]


@pytest.mark.parametrize("problem", [GAME, FREE])
@pytest.mark.parametrize("text", ["", "<think>", "<think></think>", "</think> <think>"])
def test_no_chain_gives_no_tree(problem: Problem, text: str) -> None:
    assert all(0 <= one.start < one.end <= len(text) for one in branches(problem, text))


def test_a_game_that_cannot_be_replayed_is_read_by_rules() -> None:
    text = "<think>\nSo I add 3 and 7.\n</think>\nanswer 1"
    assert [text[one.start : one.end] for one in branches(GAME, text)] == ["\nSo I add 3 and 7.\n"]
