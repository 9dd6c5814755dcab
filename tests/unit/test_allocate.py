"""Priorities by expected right answers for a token; and a run under a cap, which solves more by them."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from factory.budget import Budget
from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply
from factory.lease import acquire
from factory.search.allocate import STEPS, Cost, by_yield
from factory.search.base import Grown, Search
from factory.search.best_of_n import best_of_n
from factory.store import Store
from factory.types import Problem, StopReason
from tests.rig import alone, number_of, problems
from tests.unit.test_best_of_n import CUT, RIGHT, UNKNOWN, WRONG, Table, attempt
from tests.unit.test_driver import Plant

_alone = pytest.fixture(autouse=True)(alone)


def priorities(outcomes: Iterable[str], tokens: int = 100, typical: Cost | None = None) -> list[int]:
    """Of the attempts of one problem, one after the other."""
    table = Table(by_yield(best_of_n(9, 1), typical or Cost()))
    for id, what in enumerate(outcomes, start=1):
        table.send([Grown(table.asked[-1], replace(attempt(id, what), generated_tokens=tokens))])
    return [one.priority for one in table.asked]


def test_who_fails_falls_behind() -> None:
    found = priorities([WRONG, CUT, WRONG, WRONG])
    assert found[0] == 0
    assert found == sorted(set(found)), "by each failure"
    assert priorities([WRONG] * 5)[-1] == STEPS, "five failures halve what is expected"


def test_trouble_says_nothing() -> None:
    assert priorities([UNKNOWN, UNKNOWN]) == [0, 0, 0]


def test_who_is_right_comes_first() -> None:
    assert priorities([RIGHT, RIGHT]) == [0, 0, 0]
    assert priorities([RIGHT, WRONG])[-1] < priorities([WRONG, WRONG])[-1]


def test_who_is_dear_falls_behind() -> None:
    cheap, dear = (priorities([WRONG], tokens, Cost(100, 10_000))[-1] for tokens in (50, 400))
    assert 0 <= cheap < priorities([WRONG], 100, Cost(100, 10_000))[-1] < dear


def test_nothing_else_of_the_search_changes() -> None:
    table = Table(by_yield(best_of_n(3, stop_at=1), Cost()))
    table.back((2, RIGHT))
    assert table.cancelled == {3}
    table.back((1, WRONG), (3, WRONG))
    table.ended(StopReason.SOLVED, {1, 2})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factory.driver.POLL_SECONDS", 0.02)


async def solved(folder: Path, search: Callable[[Problem], Search]) -> int:
    """How many of 60 problems a cap lets a run solve, of which every other is hopeless and costs as much."""

    def script(prompt: Prompt, _: Request) -> Reply:
        return Reply("hm hm yes" if number_of(prompt) % 2 else "hm hmm no", turns=500)

    store = Store(str(folder))
    plant = Plant(store, acquire(store), script=script, search=search, flush_rows=1000)
    await plant.run(problems(60), budget=Budget(tokens=10 * 80))
    assert plant.tokens_paid() < 10 * (80 + 4)
    trees = [*plant.trees().values(), *plant.trees("journal").values()]
    return sum(any(node.outcome == "pass" for node in tree.nodes) for tree in trees)


async def test_under_a_cap_more_is_solved(tmp_path: Path) -> None:
    """80 attempts: enough for every first one, where the hopeless come second only after all others came first."""
    typical = Cost()
    by_age = await solved(tmp_path / "age", lambda _: best_of_n(16, 1, 1))
    first = await solved(tmp_path / "yield", lambda _: by_yield(best_of_n(16, 1, 1), typical))
    assert by_age < 15
    assert first > 25
