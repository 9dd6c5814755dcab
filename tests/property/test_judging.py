"""Whatever is asked, cancelled and judged in whatever order: the counters are what really is."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from factory.judging import Judging, allowed
from factory.types import Attempt, Origin, Span
from tests.rig import judge, problem

WORDS = ("yes", "no", "huh", "boom")


class ByHand(Executor):
    """A pool whose one thread works when it is told to."""

    def __init__(self) -> None:
        self._queue: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._queue.append((future, lambda: fn(*args, **kwargs)))
        return future

    def work(self) -> None:
        """Run the oldest that was not cancelled, if there is one."""
        while self._queue:
            future, call = self._queue.pop(0)
            if future.set_running_or_notify_cancel():
                future.set_result(call())
                return


steps = st.lists(st.tuples(st.sampled_from(["ask", "cancel", "work"]), st.integers(0, 99)), max_size=40)


@given(steps)
async def test_the_counters_are_what_is(script: list[tuple[str, int]]) -> None:
    pool = ByHand()
    judging = Judging(judge, pool, 1)
    waiting: list[tuple[str, asyncio.Task[Any]]] = []
    judged: list[str] = []
    for step, number in script:
        if step == "ask":
            word = WORDS[number % len(WORDS)]
            attempt = Attempt((Span(word, Origin.SAMPLED),))
            waiting.append((word, asyncio.create_task(judging.verdicts(problem(number), attempt))))
        elif waiting and step == "cancel":
            waiting.pop(number % len(waiting))[1].cancel()
        elif waiting:
            judged.append(waiting.pop(0)[0])
            pool.work()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stats = judging.stats
        assert (stats.waiting, stats.running) == (len(waiting), 0)
        assert (stats.passed, stats.failed) == (judged.count("yes"), judged.count("no"))
        assert stats.unknown == judged.count("huh") + judged.count("boom")
        assert judging.full(5) == (len(waiting) >= allowed(1, 5))
    for _, task in waiting:
        task.cancel()
    await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
    assert judging.stats.waiting == 0
