"""Judging on threads: what the counters say at every moment, whoever is cancelled, and when it is full."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from factory.judging import Judging, JudgingStats, allowed
from factory.types import Attempt, Origin, Problem, Span, Verdict
from tests.rig import alone, judge, problem

_alone = pytest.fixture(autouse=True)(alone)


def attempt(text: str) -> Attempt:
    return Attempt((Span(text, Origin.SAMPLED),))


class Bench:
    """Two threads and a verifier that waits to be let through."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2)
        self.open = threading.Event()
        self.judging = Judging(self._judge, self.pool, 2)

    def _judge(self, of: Problem, what: Attempt) -> tuple[Verdict, ...]:
        assert self.open.wait(60)
        if what.text == "broken":
            raise KeyError("no such verifier")
        return judge(of, what)

    def ask(self, text: str) -> asyncio.Task[tuple[Verdict, ...]]:
        return asyncio.create_task(self.judging.verdicts(problem(1), attempt(text)))


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.open.set()
    made.pool.shutdown()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # a thread sets no event of the loop's
            await asyncio.sleep(0)


def counts(stats: JudgingStats) -> tuple[int, int, int, int, int]:
    return stats.waiting, stats.running, stats.passed, stats.failed, stats.unknown


async def test_attempts_are_counted_from_the_queue_to_the_verdict(bench: Bench) -> None:
    asked = [bench.ask(text) for text in ("yes", "no", "huh", "boom", "so yes")]
    await until(lambda: bench.judging.stats.running == 2)
    assert counts(bench.judging.stats) == (3, 2, 0, 0, 0)
    assert bench.judging.stats.mean is None
    bench.open.set()
    found = await asyncio.gather(*asked)
    assert [verdicts[0].outcome for verdicts in found] == ["pass", "fail", "unknown", "unknown", "pass"]
    stats = bench.judging.stats
    assert counts(stats) == (0, 0, 2, 1, 2)
    assert stats.judged == 5
    assert stats.mean == stats.seconds / 5 <= stats.longest <= stats.seconds


async def test_a_judge_that_breaks_decided_nothing(bench: Bench) -> None:
    bench.open.set()
    with pytest.raises(KeyError):
        await bench.ask("broken")
    assert counts(bench.judging.stats) == (0, 0, 0, 0, 1)


async def test_an_attempt_that_is_cancelled_before_its_turn_is_forgotten(bench: Bench) -> None:
    asked = [bench.ask("yes") for _ in range(3)]
    await until(lambda: bench.judging.stats.running == 2)
    asked[2].cancel()
    await asyncio.wait(asked[2:])
    assert counts(bench.judging.stats) == (0, 2, 0, 0, 0)
    bench.open.set()
    await asyncio.gather(*asked[:2])
    assert counts(bench.judging.stats) == (0, 0, 2, 0, 0)


async def test_an_attempt_that_is_cancelled_on_its_thread_is_counted(bench: Bench) -> None:
    asked = bench.ask("yes")
    await until(lambda: bench.judging.stats.running == 1)
    asked.cancel()
    await asyncio.wait([asked])
    assert counts(bench.judging.stats) == (0, 1, 0, 0, 0), "its thread is not free"
    bench.open.set()
    await until(lambda: bench.judging.stats.running == 0)
    assert counts(bench.judging.stats) == (0, 0, 1, 0, 0)


async def test_it_is_full_when_every_thread_and_every_place_has_one(bench: Bench) -> None:
    places = 3
    asked = []
    for number in range(allowed(2, places)):
        assert bench.judging.stats.waiting + bench.judging.stats.running == number
        assert not bench.judging.full(places)
        asked.append(bench.ask("yes"))
        await asyncio.sleep(0)
    assert bench.judging.full(places)
    assert not bench.judging.full(places + 1)
    bench.open.set()
    await asyncio.gather(*asked)
    assert not bench.judging.full(places)


def test_workers_add_up() -> None:
    one = JudgingStats(1, 2, 3, 4, 5, seconds=6.0, longest=0.5)
    other = JudgingStats(10, 20, 30, 40, 50, seconds=60.0, longest=0.25)
    assert sum((one, other), JudgingStats()) == JudgingStats(11, 22, 33, 44, 55, seconds=66.0, longest=0.5)


def test_looks_differ_by_what_has_changed() -> None:
    one = JudgingStats(1, 2, 3, 4, 5, seconds=6.0, longest=0.5)
    later = JudgingStats(0, 1, 30, 40, 50, seconds=60.0, longest=0.75)
    assert one + (later - one) == later
