"""A rule reads along: a score of 1 while nothing is wrong, 0 from the first flaw on, none where nobody can tell."""

from dataclasses import replace
from functools import partial

import pytest

from factory.scorers.chain import ChainScorer
from factory.types import Check, Message, Node, NodeState, Problem
from factory.verifiers.base import Verifier, flaw
from factory.verifiers.countdown import CountdownVerifier
from tests.rig import Says
from tests.unit.test_best_of_n import CUT, attempt

VERIFIERS: dict[str, Verifier] = {"countdown": CountdownVerifier(), "says": Says()}
SCORER = ChainScorer(partial(flaw, VERIFIERS))


def problem(verifier: str = "countdown", **params: object) -> Problem:
    given = {"numbers": [3, 7, 12, 25], "target": 42} | params if verifier == "countdown" else {}
    return Problem("0" * 20, (Message("user", "make 42"),), None, (Check(verifier, given),), "test")


def path(*texts: str) -> list[Node]:
    return [replace(attempt(id, CUT), state=NodeState.OPEN, text=text) for id, text in enumerate(texts, start=1)]


async def score(*texts: str, of: Problem | None = None) -> float | None:
    return (await SCORER.score(of or problem(), path(*texts))).value


START = "<think>\n"
GOOD = ("try 25 - 7 = 18 left 3 12 18\n", "try 18 * 3 = 54 left 12 54\n", "try 54 - 12 = 42 left 42\n", "done\n")


async def test_a_sound_beginning() -> None:
    for length in range(len(GOOD) + 1):
        assert await score(START, *GOOD[:length]) == 1.0
        assert await score(*GOOD[:length]) == 1.0, "the template may have opened the thinking"
    assert await score(START, *GOOD, "</think>\n") == 1.0
    assert await score(START, *GOOD, "</think>\nanswer 1") == 1.0, "the answer is not its business"
    assert await score(START, GOOD[0], "dead\n", "back 3 7 12 25\n") == 1.0


@pytest.mark.parametrize(
    "lines",
    [
        ("try 25 - 7 = 19 left 3 12 19\n",),
        ("try 25 - 8 = 17 left 3 12 17\n",),
        (GOOD[0], "done\n"),
        (GOOD[0], "back 3 12\n"),
        (GOOD[0], "dead\n", "</think>\n"),
        ("hm\n",),
    ],
    ids=["sum", "number", "done", "back", "given up", "unreadable"],
)
async def test_a_flaw(lines: tuple[str, ...]) -> None:
    assert await score(START, *lines) == 0.0
    assert await score(START, *lines, GOOD[0]) == 0.0


async def test_half_a_line_is_not_read() -> None:
    assert await score(START, "try 25 - 7 = 1") == 1.0
    assert await score(START, "try 25 - 7 = 1", "9 left 3 12 19") == 1.0
    assert await score(START, "try 25 - 7 = 1", "9 left 3 12 19\n") == 0.0


async def test_where_nobody_can_tell_there_is_no_score() -> None:
    assert await score("anything\n", of=problem("says")) is None
    assert await score("anything\n", of=problem("nothing")) is None
    assert await score("anything\n", of=problem(numbers="many")) is None
    assert await score("anything\n", of=problem(chain="none")) == 1.0
