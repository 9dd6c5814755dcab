"""Verdicts beside the event loop: the threads that verifiers run on, what they came to, and when there are too many.

A `Judging` belongs to one worker. An attempt waits for a thread, is judged there, and its verdicts go back to the one
rollout that waits for them: an attempt whose verifier hangs holds up its own problem and one thread. An attempt that is
cancelled before a thread took it is forgotten; one that is being judged is judged to its end, and counted.

Back-pressure: while as many attempts as `allowed` are without a verdict, no further problem is started; what was
started goes on. That bounds what piles up, and costs nothing where verifiers can follow. Where they cannot, they are
never without work: slower than the engine, they judge less than one attempt a place while another is generated.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from factory.types import Aspect, Attempt, Outcome, Problem, Verdict
from factory.verifiers.base import outcome_of

Verdicts = tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class JudgingStats:
    """A look at the counters; all but the first two only grow. Those of several workers can be added up."""

    waiting: int = 0
    """Attempts that no thread has taken yet."""
    running: int = 0
    """Attempts being judged now."""
    passed: int = 0
    """Attempts whose answer passed, since the start."""
    failed: int = 0
    unknown: int = 0
    """Attempts about whose answer nothing was decided."""
    seconds: float = 0.0
    """Wall time of judging, all attempts together; they run side by side."""
    longest: float = 0.0
    """Of one attempt."""

    @property
    def judged(self) -> int:
        return self.passed + self.failed + self.unknown

    @property
    def mean(self) -> float | None:
        """Seconds an attempt; None before there is one."""
        return self.seconds / self.judged if self.judged else None

    def __add__(self, other: JudgingStats) -> JudgingStats:
        return JudgingStats(
            waiting=self.waiting + other.waiting,
            running=self.running + other.running,
            passed=self.passed + other.passed,
            failed=self.failed + other.failed,
            unknown=self.unknown + other.unknown,
            seconds=self.seconds + other.seconds,
            longest=max(self.longest, other.longest),
        )

    def __sub__(self, earlier: JudgingStats) -> JudgingStats:
        """What has changed since an earlier look; added to that, it gives this one again."""
        return JudgingStats(
            waiting=self.waiting - earlier.waiting,
            running=self.running - earlier.running,
            passed=self.passed - earlier.passed,
            failed=self.failed - earlier.failed,
            unknown=self.unknown - earlier.unknown,
            seconds=self.seconds - earlier.seconds,
            longest=self.longest,
        )


def allowed(threads: int, places: int) -> int:
    """Attempts without a verdict from which on no problem is started: one a thread, and one a place of the engine."""
    return threads + places


class Judging:
    """Judges attempts on threads. `verdicts` belongs to an event loop; `stats` may be read anywhere."""

    def __init__(self, judge: Callable[[Problem, Attempt], Verdicts], pool: Executor, threads: int) -> None:
        """`judge` is called in `pool`, which has so many `threads`."""
        self._judge = judge
        self._pool = pool
        self._threads = threads
        self._lock = threading.Lock()
        self.stats = JudgingStats()

    async def verdicts(self, problem: Problem, attempt: Attempt) -> Verdicts:
        """What the verifiers say. Raises what `judge` raises."""
        self._add(JudgingStats(waiting=1))
        found = self._pool.submit(self._judged, problem, attempt)
        found.add_done_callback(self._forget)
        return await asyncio.wrap_future(found)

    def full(self, places: int) -> bool:
        """Whether no further problem shall be started, beside an engine that has so many places."""
        stats = self.stats
        return stats.waiting + stats.running >= allowed(self._threads, places)

    def _judged(self, problem: Problem, attempt: Attempt) -> Verdicts:
        self._add(JudgingStats(waiting=-1, running=1))
        start = time.perf_counter()
        outcome = None
        try:
            found = self._judge(problem, attempt)
            outcome = outcome_of(found, Aspect.ANSWER)
        finally:  # before the result is there: who waits for it finds the counters up to date
            self._add(_finished(outcome, time.perf_counter() - start))
        return found

    def _forget(self, found: Future[Verdicts]) -> None:
        if found.cancelled():
            self._add(JudgingStats(waiting=-1))

    def _add(self, change: JudgingStats) -> None:
        with self._lock:
            self.stats += change


def _finished(outcome: Outcome | None, seconds: float) -> JudgingStats:
    return JudgingStats(
        running=-1,
        passed=outcome is Outcome.PASS,
        failed=outcome is Outcome.FAIL,
        unknown=outcome in {None, Outcome.UNKNOWN},
        seconds=seconds,
        longest=seconds,
    )
