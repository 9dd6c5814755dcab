"""A worker on the scripted engine and a real folder: it fills its engine, tries again, writes, and loses nothing."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import factory.worker
from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine
from factory.judging import allowed
from factory.lease import Lease, acquire
from factory.rows import Row, row_tree
from factory.search.base import Search
from factory.search.best_of_n import best_of_n
from factory.shards import Written, commit, read, sidecars
from factory.store import Store
from factory.types import Attempt, NodeState, Outcome, Problem, StopReason, Tree, Verdict
from factory.worker import Assignment, Identity, Limits, Report, Worker
from tests.rig import alone, judge, node_of, number_of, problem, problems, script, tools

NEVER = 10**9
"""Event-loop turns: longer than any test."""


_alone = pytest.fixture(autouse=True)(alone)


def best_of(n: int, wave: int | None = None, stop_at: int | None = None) -> Callable[[Problem], Search]:
    return lambda _: best_of_n(n, wave, stop_at)


class Shop:
    """A run folder that this process owns, and the workers that were hired for it."""

    def __init__(self, path: Path) -> None:
        self.store = Store(str(path / "run"))
        self.lease: Lease = acquire(self.store)
        self._hired: list[Worker] = []

    async def hire(
        self,
        engine: ScriptedEngine,
        search: Callable[[Problem], Search] | None = None,
        *,
        judge: Callable[[Problem, Attempt], tuple[Verdict, ...]] = judge,
        threads: int = 1,
        tries: int = 3,
        flush_rows: int = 1000,
        flush_seconds: float = 1000.0,
    ) -> Worker:
        await engine.start()
        name = f"w{len(self._hired)}"
        worker = Worker(
            Identity(self.store.url, self.lease.epoch, name),
            Limits(tries, flush_rows, flush_seconds),
            tools(engine, search, judge=judge, pool=ThreadPoolExecutor(threads), threads=threads),
        )
        self._hired.append(worker)
        return worker

    def commit(self, written: Written) -> str:
        return commit(self.store, self.lease, written, config_digest="digest").name

    def trees(self, written: Iterable[Written]) -> dict[str, Tree]:
        """By the text of the problem; whatever stands there twice is a bug."""
        found: dict[str, Tree] = {}
        for shard in written:
            self.commit(shard)
            (sidecar,) = [one for one in sidecars(self.store, shard.table) if one.name == shard.name]
            for row in read(self.store, sidecar, verify=True).to_pylist():
                tree = row_tree(row)
                text = tree.problem.messages[0].content
                assert text not in found
                found[text] = tree
        return found

    async def close(self) -> None:
        for worker in self._hired:
            await worker.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left running"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(tmp_path)
    yield made
    await made.close()


def assigned(many: Iterable[Problem], journal: str | None = None) -> list[Assignment]:
    return [Assignment(one, journal) for one in many]


async def finish(worker: Worker) -> list[Report]:
    """Every report until nothing is queued or in flight, and the buffer is written."""
    reports = []
    async with asyncio.timeout(20):
        while True:
            reports.append(await worker.poll(60, hungry=False))
            if reports[-1].idle or reports[-1].dead:
                return [*reports, await worker.poll(0, hungry=False)]  # what closed while a shard was written


def written(reports: Iterable[Report]) -> list[Written]:
    return [one for report in reports for one in report.written]


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something is so; what it waits for needs no clock."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the engine sets no event for them
            await asyncio.sleep(0)


def asked(engine: ScriptedEngine) -> Counter[tuple[int, int]]:
    """How often the engine was asked for which node of which problem."""
    return Counter((number_of(prompt), node_of(request)) for prompt, request in engine.requests)


# --- the work


async def test_every_problem_ends_as_one_row(shop: Shop) -> None:
    worker = await shop.hire(ScriptedEngine(script(), max_running=8))
    worker.submit(assigned(problems(30)))
    reports = await finish(worker)
    trees = shop.trees(written(reports))
    assert set(trees) == {f"q{number}" for number in range(30)}
    for tree in trees.values():
        assert tree.stop in {StopReason.SOLVED, StopReason.EXHAUSTED}
        assert tree.error is None
        assert tree.tries == 1
    assert (reports[-1].trees, reports[-1].idle, reports[-1].dead) == (0, True, None)


async def test_a_worker_begins_nothing_beyond_what_it_was_granted(shop: Shop) -> None:
    """Each answer costs 3 tokens; two places, so that 2 requests are in flight when the grant is reached."""
    engine = ScriptedEngine(lambda _, __: Reply("no"), max_running=2)
    worker = await shop.hire(engine, best_of(4))
    first = await worker.poll(0, hungry=True, tokens=0)
    worker.submit(assigned(problems(5)))
    for _ in range(50):
        await asyncio.sleep(0)
    assert (first.engine.generated_tokens, engine.requests) == (0, [])

    report = await at_once(worker.poll(60, hungry=False, tokens=10))
    assert report.engine.generated_tokens in {12, 15}, "it tells at once that there is nothing left"
    assert len(engine.requests) == report.engine.generated_tokens // 3
    assert await seconds(worker.poll(0.1, hungry=False, tokens=10)) >= 0.1, "and only once"
    assert len(engine.requests) == report.engine.generated_tokens // 3

    reports = [report, *await finish(worker)]  # any number
    assert engine.stats.generated_tokens == 5 * 4 * 3
    assert len(shop.trees(written(reports))) == 5
    assert reports[-1].busy_seconds > 0


async def test_entries_say_how_problems_ended(shop: Shop) -> None:
    answers = {0: "yes", 1: "no", 2: "huh", 3: "x" * 99, 4: "boom"}
    worker = await shop.hire(
        ScriptedEngine(lambda prompt, _: Reply(answers[number_of(prompt)])), best_of(2), flush_rows=1000
    )
    worker.submit(assigned(problems(5)))
    (shard,) = written(await finish(worker))
    found = {entry.problem_id: (entry.status, entry.error, dict(entry.counters)) for entry in shard.entries}
    assert all(counters.pop("engine_milliseconds") >= 0 for _, _, counters in found.values())
    expected = {
        0: ("solved", {"generated_tokens": 2 * 4, "attempts": 2, "right": 2}),
        1: ("unsolved", {"generated_tokens": 2 * 3, "attempts": 2, "right": 0}),
        2: ("unsolved", {"generated_tokens": 2 * 4, "attempts": 2, "right": 0}),
        3: ("unsolved", {"generated_tokens": 2 * 64, "attempts": 2, "right": 0}),
        4: ("unsolved", {"generated_tokens": 2 * 5, "attempts": 2, "right": 0}),
    }
    assert found == {problem(number).id: (status, None, counters) for number, (status, counters) in expected.items()}


async def test_reports_count_what_happened_since_the_last(shop: Shop) -> None:
    worker = await shop.hire(ScriptedEngine(lambda _, __: Reply("yes")), best_of(3))
    worker.submit(assigned(problems(4)))
    reports = await finish(worker)
    worker.submit(assigned(problems(2, start=10)))
    reports += await finish(worker)
    assert sum(report.closed for report in reports) == sum(report.solved for report in reports) == 6
    assert sum(report.attempts for report in reports) == sum(report.right for report in reports) == 18
    assert reports[-1].engine.generated_tokens == 18 * 4


# --- the engine is kept full, and no fuller


def stuck(max_running: int) -> ScriptedEngine:
    """Takes requests and never answers."""
    return ScriptedEngine(script(), max_running=max_running, seconds_per_token=1e6)


@pytest.mark.parametrize(("places", "n", "trees"), [(8, 4, 3), (10, 4, 3), (1, 4, 1), (8, 1, 9)])
async def test_as_many_trees_as_the_engine_needs(places: int, n: int, trees: int, shop: Shop) -> None:
    engine = stuck(places)
    worker = await shop.hire(engine, best_of(n))
    worker.submit(assigned(problems(100)))
    await until(lambda: engine.stats.running + engine.stats.waiting == places + places // 8)
    report = await worker.poll(0, hungry=True)
    assert report.trees == trees
    assert report.room == 0
    assert engine.stats.waiting == places // 8, "whatever else the trees ask for waits outside"


async def test_a_waved_search_fills_the_engine_with_more_trees(shop: Shop) -> None:
    engine = stuck(8)
    worker = await shop.hire(engine, best_of(16, wave=2))
    worker.submit(assigned(problems(100)))
    await until(lambda: engine.stats.running + engine.stats.waiting == 9)
    assert (await worker.poll(0, hungry=True)).trees == 5


async def test_places_are_refilled_as_trees_end(shop: Shop) -> None:
    """As long as problems are queued, every answer finds the engine full again soon after."""
    running: list[int] = []
    waiting: list[int] = []

    def watching(prompt: Prompt, request: Request) -> Reply:
        running.append(engine.stats.running)
        waiting.append(engine.stats.waiting)
        return script(lambda number, node: 300 + 50 * ((number + node) % 5))(prompt, request)

    engine = ScriptedEngine(watching, max_running=8)
    worker = await shop.hire(engine, best_of(4, wave=2))
    worker.submit(assigned(problems(60)))
    await finish(worker)
    middle = running[8 : len(running) * 3 // 4]
    assert sum(middle) / len(middle) > 6, "of 8"
    # An eighth more than the places, the last tree's wave, and one for each attempt that was being judged meanwhile.
    assert max(waiting) <= 1 + 2 + allowed(1, 8)


async def test_journaled_trees_do_not_overfill_the_engine(shop: Shop) -> None:
    """Reading a journal takes a moment in which a tree asks for nothing; that must not let all others in."""
    name = shop.commit(await interrupted(shop, problems(40)))
    engine = stuck(8)
    worker = await shop.hire(engine, best_of(4))
    worker.submit(assigned(problems(40), name))
    await until(lambda: engine.stats.running == 8)
    await until(lambda: (engine.stats.running + engine.stats.waiting) >= 8)
    report = await worker.poll(0.05, hungry=False)
    assert report.trees <= 8
    assert engine.stats.waiting < 4


async def interrupted(shop: Shop, many: Sequence[Problem]) -> Written:
    """A journal shard in which each of these has its first attempt."""

    def first_only(prompt: Prompt, request: Request) -> Reply:
        return Reply("no", turns=0 if node_of(request) == 1 else NEVER)

    judged = threading.Semaphore(0)

    def telling(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        judged.release()
        return judge(problem, attempt)

    worker = await shop.hire(ScriptedEngine(first_only, max_running=4 * len(many)), best_of(4), judge=telling)
    worker.submit(assigned(many))
    for _ in many:
        await asyncio.to_thread(judged.acquire)
    (journal,) = (await worker.stop()).written
    assert (journal.table, journal.rows) == ("journal", len(many))
    return journal


async def test_a_journal_shard_is_read_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    name = shop.commit(await interrupted(shop, problems(12)))
    reads: list[str] = []

    def spying(store: Store, table: str, name: str) -> Iterable[Row]:
        reads.append(name)
        return read_rows(store, table, name)

    read_rows = factory.worker.read_rows  # type: ignore[attr-defined]
    monkeypatch.setattr(factory.worker, "read_rows", spying)
    engine = ScriptedEngine(lambda _, __: Reply("no"), max_running=64)
    worker = await shop.hire(engine, best_of(4))
    worker.submit(assigned(problems(12), name))
    trees = shop.trees(written(await finish(worker)))
    assert len(trees) == 12
    assert set(asked(engine)) == {(number, node) for number in range(12) for node in (2, 3, 4)}
    assert reads == [name]


# --- verdicts keep up, or hold back what is not started


class Held:
    """A verifier that waits for some attempts to be let through."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.holds: Callable[[Problem, Attempt], bool] = lambda _, __: True

    def judge(self, of: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        if self.holds(of, attempt):
            assert self._open.wait(60)
        return judge(of, attempt)

    def let_go(self) -> None:
        self._open.set()


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.let_go()


async def test_attempts_that_wait_for_a_verdict_leave_their_places_to_others(held: Held, shop: Shop) -> None:
    """Half of all attempts are back and no verifier has decided about any: the engine is full all the same."""
    engine = ScriptedEngine(lambda _, request: Reply("no", turns=0 if node_of(request) == 1 else NEVER), max_running=8)
    worker = await shop.hire(engine, best_of(2), judge=held.judge, threads=2)
    worker.submit(assigned(problems(100)))
    await until(lambda: engine.stats.running == 8)
    report = await worker.poll(0, hungry=True)
    assert report.trees >= 8
    assert (report.judging.running, report.judging.judged) == (2, 0)
    assert report.judging.waiting == report.trees - 2


async def test_what_cannot_be_judged_does_not_pile_up(held: Held, shop: Shop) -> None:
    places, threads, n = 8, 2, 3
    engine = ScriptedEngine(script(), max_running=places)
    worker = await shop.hire(engine, best_of(n), judge=held.judge, threads=threads)
    worker.submit(assigned(problems(100)))
    await until(lambda: worker._tools.judging.full(places) and engine.stats.running == 0)
    begun = len(worker._rollouts)
    report = await worker.poll(0.05, hungry=True)
    assert len(engine.requests) == n * begun == n * report.trees, "nothing was begun meanwhile"
    pending = report.judging.waiting + report.judging.running
    assert allowed(threads, places) <= pending < allowed(threads, places) + places + places // 8 + n
    assert report.room == 0

    held.let_go()
    assert len(shop.trees(written(await finish(worker)))) == 100
    assert worker._tools.judging.stats.waiting == worker._tools.judging.stats.running == 0


async def test_an_answer_that_hangs_holds_up_its_problem_and_no_other(held: Held, shop: Shop) -> None:
    held.holds = lambda of, _: of == problem(3)
    engine = ScriptedEngine(lambda _, __: Reply("yes"), max_running=4)
    worker = await shop.hire(engine, best_of(1), judge=held.judge, threads=2)
    worker.submit(assigned(problems(60)))
    await until(lambda: list(worker._rollouts) == [problem(3).id] and not worker._queue)
    report = await worker.poll(0, hungry=False)
    assert (report.trees, report.judging.running, report.judging.waiting) == (1, 1, 0)
    held.let_go()
    assert len(shop.trees(written([report, *await finish(worker)]))) == 60


async def test_reports_tell_what_was_judged(shop: Shop) -> None:
    answers = {0: "yes", 1: "no", 2: "huh", 3: "x" * 99, 4: "boom"}
    worker = await shop.hire(ScriptedEngine(lambda prompt, _: Reply(answers[number_of(prompt)])), best_of(2))
    worker.submit(assigned(problems(5)))
    judging = (await finish(worker))[-1].judging
    assert (judging.passed, judging.failed, judging.unknown) == (2, 2, 4), "what was cut is not judged"
    assert 0 < judging.longest <= judging.seconds


# --- polls


async def test_a_hungry_poll_tells_of_room_at_once(shop: Shop) -> None:
    worker = await shop.hire(stuck(64))
    report = await at_once(worker.poll(60, hungry=True))
    assert report.room == 4
    assert report.idle
    worker.submit(assigned(problems(2)))
    assert (await at_once(worker.poll(60, hungry=True))).room > 0


async def test_more_places_take_more_at_a_time(shop: Shop) -> None:
    worker = await shop.hire(stuck(256))
    assert (await worker.poll(0, hungry=True)).room == 16


async def test_a_poll_without_news_stays_open(shop: Shop) -> None:
    """Neither an idle worker nor a busy one keeps its driver spinning."""
    worker = await shop.hire(stuck(1))
    assert await seconds(worker.poll(0.1, hungry=False)) >= 0.1
    worker.submit(assigned(problems(9)))
    while (await worker.poll(0, hungry=True)).room:
        worker.submit(assigned(problems(1, start=50)))
    assert await seconds(worker.poll(0.1, hungry=True)) >= 0.1


async def test_an_idle_worker_that_will_get_no_more_writes_what_it_has(shop: Shop) -> None:
    """At once: the driver waits for these rows and for nothing else."""
    worker = await shop.hire(ScriptedEngine(script()))
    worker.submit(assigned(problems(3)))
    reports: list[Report] = []
    while not written(reports):
        reports.append(await at_once(worker.poll(60, hungry=False)))
    assert reports[-1].idle
    assert sum(one.rows for one in written(reports)) == 3
    assert await seconds(worker.poll(0.1, hungry=False)) >= 0.1, "and has nothing more to say"


async def test_a_full_buffer_is_written_although_there_is_always_room(shop: Shop) -> None:
    """A fast engine has room at every poll: it must write all the same."""
    worker = await shop.hire(ScriptedEngine(script(), max_running=4), best_of(1), flush_rows=5)
    done: list[Written] = []
    number = 0
    async with asyncio.timeout(20):
        while not done:
            report = await worker.poll(60, hungry=True)
            worker.submit(assigned(problems(report.room, start=number)))
            number += report.room
            done += report.written
    assert number < 100
    assert sum(one.rows for one in done) >= 5


async def test_an_old_buffer_is_written_however_little_it_holds(shop: Shop) -> None:
    """And a quiet worker need not be asked for it."""

    def one_answers(prompt: Prompt, _: Request) -> Reply:
        return Reply("yes", turns=0 if number_of(prompt) == 0 else NEVER)

    engine = ScriptedEngine(one_answers, max_running=1)
    worker = await shop.hire(engine, best_of(1), flush_seconds=0.01)
    worker.submit(assigned(problems(2)))
    (shard,) = written([await at_once(worker.poll(60, hungry=False))])
    assert [entry.problem_id for entry in shard.entries] == [problem(0).id]


async def test_a_full_buffer_is_news(shop: Shop) -> None:
    worker = await shop.hire(ScriptedEngine(script()), best_of(1), flush_rows=2)
    worker.submit(assigned(problems(8)))
    reports = await finish(worker)
    assert all(one.rows <= 8 for one in written(reports))
    assert len(shop.trees(written(reports))) == 8


# --- trouble with a problem


def failing(bad: Callable[[int, int], bool]) -> Callable[[Prompt, Request], Reply]:
    """A teacher that fails some (problem, node) for ever; node 1 is quick, the others wait a little."""

    def reply(prompt: Prompt, request: Request) -> Reply:
        number, node = number_of(prompt), node_of(request)
        return Reply("so no", turns=0 if node == 1 else 200, error="no memory" if bad(number, node) else None)

    return reply


async def test_a_problem_that_always_fails_is_tried_and_ends_as_an_error_with_what_was_paid_for(shop: Shop) -> None:
    engine = ScriptedEngine(failing(lambda number, node: (number, node) == (1, 3)))
    worker = await shop.hire(engine, best_of(3), tries=3)
    worker.submit(assigned(problems(3)))
    reports = await finish(worker)
    trees = shop.trees(written(reports))
    bad = trees["q1"]
    assert (bad.stop, bad.tries) == (StopReason.ERROR, 3)
    assert bad.error == "EngineError: scripted engine: no memory"
    assert 1 in {node.id for node in bad.nodes}
    counts = asked(engine)
    assert counts[1, 3] == 3, "as often as it may be tried"
    assert counts[1, 1] == 1, "what was finished is not generated again"
    assert bad.cost.generated_tokens == sum(node.generated_tokens for node in bad.nodes) > 0
    (entry,) = [one for shard in written(reports) for one in shard.entries if one.problem_id == problem(1).id]
    assert (entry.status, entry.error) == ("error", bad.error)
    assert {trees[name].error for name in ("q0", "q2")} == {None}
    assert reports[-1].dead is None


async def test_a_problem_that_fails_once_succeeds_at_the_next_try(shop: Shop) -> None:
    failed: list[int] = []

    def once(prompt: Prompt, request: Request) -> Reply:
        if node_of(request) == 2 and not failed:
            failed.append(1)
            return Reply("", turns=300, error="a hiccup")
        return Reply("so yes")

    engine = ScriptedEngine(once)
    worker = await shop.hire(engine, best_of(3))
    worker.submit(assigned(problems(1)))
    tree = shop.trees(written(await finish(worker)))["q0"]
    assert (tree.stop, tree.error, tree.tries) == (StopReason.SOLVED, None, 2)
    assert [node.id for node in tree.nodes] == [1, 2, 3]
    assert asked(engine) == {(0, 1): 1, (0, 2): 2, (0, 3): 1}


async def test_one_try_is_one_try(shop: Shop) -> None:
    engine = ScriptedEngine(failing(lambda _, node: node == 1))
    worker = await shop.hire(engine, best_of(1), tries=1)
    worker.submit(assigned(problems(1)))
    tree = shop.trees(written(await finish(worker)))["q0"]
    assert (tree.stop, tree.tries, tree.nodes) == (StopReason.ERROR, 1, ())
    assert asked(engine) == {(0, 1): 1}


async def test_a_judge_that_breaks_fails_its_problem_and_no_other(shop: Shop) -> None:
    def broken(of: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        if of == problem(1):
            raise KeyError("no such verifier")
        return judge(of, attempt)

    engine = ScriptedEngine(lambda _, __: Reply("yes"))
    worker = await shop.hire(engine, best_of(2), judge=broken, tries=2)
    worker.submit(assigned(problems(3)))
    trees = shop.trees(written(await finish(worker)))
    assert trees["q1"].error == "KeyError: 'no such verifier'"
    assert asked(engine)[1, 1] == asked(engine)[1, 2] == 1, "judged again, not generated again"
    assert {trees[name].stop for name in ("q0", "q2")} == {StopReason.SOLVED}


def unwritable(of: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
    """What it says of q1 is no Unicode, which no table can hold."""
    found = judge(of, attempt)
    return tuple(replace(one, evidence="\ud800") for one in found) if of == problem(1) else found


async def test_a_tree_that_no_table_can_hold_fails_its_problem_and_no_other(shop: Shop) -> None:
    worker = await shop.hire(ScriptedEngine(lambda _, __: Reply("yes")), best_of(2), judge=unwritable)
    worker.submit(assigned(problems(3)))
    reports = await finish(worker)
    trees = shop.trees(written(reports))
    assert set(trees) == {"q0", "q1", "q2"}
    assert trees["q1"].stop is StopReason.ERROR
    assert (trees["q1"].error or "").startswith("UnicodeEncodeError")
    assert trees["q1"].cost.generated_tokens > 0, "it was paid for"
    assert reports[-1].dead is None


# --- ends


async def test_stopping_journals_open_trees_and_another_worker_goes_on_from_there(shop: Shop) -> None:
    many = problems(6)
    journal = await interrupted(shop, many)
    assert all(entry.status == "open" for entry in journal.entries)
    name = shop.commit(journal)
    engine = ScriptedEngine(script())
    worker = await shop.hire(engine, best_of(4))
    worker.submit(assigned(many, name))
    trees = shop.trees(written(await finish(worker)))
    assert set(asked(engine)) == {(number, node) for number in range(6) for node in (2, 3, 4)}
    for tree in trees.values():
        assert [node.id for node in tree.nodes] == [1, 2, 3, 4]
        first = tree.nodes[0]
        assert (first.text, first.state, first.outcome) == ("no", NodeState.FINISHED, Outcome.FAIL)


async def test_stopping_writes_what_is_finished_and_forgets_what_is_queued(shop: Shop) -> None:
    def one_answers(prompt: Prompt, _: Request) -> Reply:
        return Reply("yes", turns=0 if number_of(prompt) == 0 else NEVER)

    engine = ScriptedEngine(one_answers, max_running=1)
    worker = await shop.hire(engine, best_of(1))
    worker.submit(assigned(problems(9)))
    await until(lambda: len(engine.requests) == 2 and worker._tally.closed == 1)
    report = await worker.stop()
    (shard,) = report.written
    assert (shard.table, shard.rows) == ("rollouts", 1)
    assert (report.idle, report.room) == (True, 4)
    assert await worker.stop() is not None, "twice is once"


async def test_tries_go_on_counting_over_the_journal(shop: Shop) -> None:
    """A tree that failed twice before the stop has one try left after it."""
    engine = ScriptedEngine(failing(lambda _, node: node == 2))
    worker = await shop.hire(engine, best_of(3), tries=10**6)
    worker.submit(assigned(problems(1)))
    await until(lambda: asked(engine)[0, 2] == 3)
    (journal,) = (await worker.stop()).written
    (tree,) = shop.trees([journal]).values()
    assert tree.tries == 3
    assert tree.stop is None
    assert {node.id for node in tree.nodes} == {1, 3}

    engine = ScriptedEngine(failing(lambda _, node: node == 2))
    worker = await shop.hire(engine, best_of(3), tries=3)
    worker.submit(assigned(problems(1), journal.name))
    (tree,) = shop.trees(written(await finish(worker))).values()
    assert (tree.tries, tree.stop) == (3, StopReason.ERROR)
    assert asked(engine) == {(0, 2): 1}


async def test_a_dead_engine_is_told_and_loses_nothing_that_was_finished(shop: Shop) -> None:
    """Closed trees are written, open ones journaled, and a new worker pays for the rest only."""
    loop = asyncio.get_running_loop()

    def slow_at_3(prompt: Prompt, request: Request) -> Reply:
        number, node = number_of(prompt), node_of(request)
        return script(lambda _, __: NEVER if number == 3 and node > 1 else 0)(prompt, request)

    def deadly_at_7(of: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        if of == problem(7):
            loop.call_soon_threadsafe(engine.kill, "it was told to")
        return judge(of, attempt)

    engine = ScriptedEngine(slow_at_3, max_running=8)
    worker = await shop.hire(engine, best_of(4), judge=deadly_at_7)
    worker.submit(assigned(problems(12)))
    reports: list[Report] = []
    while not (reports and reports[-1].dead):
        reports.append(await at_once(worker.poll(60, hungry=False)))
    assert reports[-1].dead == "EngineDead: scripted engine: it was told to"
    assert reports[-1].room == 0
    reports.append(await worker.stop())

    done = written(reports)
    closed = shop.trees(one for one in done if one.table == "rollouts")
    (journal,) = [one for one in done if one.table == "journal"]
    opened = shop.trees([journal])
    assert closed
    assert opened
    assert not closed.keys() & opened.keys()
    have = {(text, node.id) for text, tree in opened.items() for node in tree.nodes}

    second = ScriptedEngine(script(), max_running=4)
    worker = await shop.hire(second, best_of(4))
    rest = [one for one in problems(12) if one.messages[0].content not in closed]
    worker.submit(Assignment(one, journal.name if one.messages[0].content in opened else None) for one in rest)
    finished = shop.trees(written(await finish(worker)))
    assert set(finished) | set(closed) == {f"q{number}" for number in range(12)}
    asked_again = {(f"q{number}", node) for number, node in asked(second)}
    assert not have & asked_again
    assert len(have) + len(asked_again) == 4 * len(rest)


async def test_a_lost_journal_shard_costs_its_generations_and_nothing_else(shop: Shop) -> None:
    name = shop.commit(await interrupted(shop, problems(2)))
    shop.store.delete(f"journal/{name}.parquet")
    engine = ScriptedEngine(lambda _, __: Reply("yes"))
    worker = await shop.hire(engine, best_of(2))
    worker.submit([*assigned(problems(2), name), *assigned(problems(1, start=2), "part-000001-gone-000001")])
    reports = await finish(worker)
    assert reports[-1].dead is None
    assert len(shop.trees(written(reports))) == 3


async def test_a_journal_that_is_not_to_be_read_now_ends_the_worker_and_is_kept(shop: Shop) -> None:
    """Trouble with the storage is no reason to pay again: another worker may fare better."""
    name = shop.commit(await interrupted(shop, problems(2)))
    break_file(Path(shop.store.uri(f"journal/{name}.json")))
    engine = ScriptedEngine(script())
    worker = await shop.hire(engine)
    worker.submit(assigned(problems(2), name))
    report = await at_once(worker.poll(60, hungry=False))
    assert f"cannot read journal shard {name}: StorageError" in (report.dead or "")
    assert (await worker.stop()).written == ()
    assert engine.requests == []


async def test_an_open_tree_that_no_table_can_hold_does_not_take_others_with_it(shop: Shop) -> None:
    judged = threading.Semaphore(0)

    def telling(of: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        judged.release()
        return unwritable(of, attempt)

    engine = ScriptedEngine(lambda _, request: Reply("yes", turns=0 if node_of(request) == 1 else NEVER))
    worker = await shop.hire(engine, best_of(2), judge=telling)
    worker.submit(assigned(problems(3)))
    for _ in range(3):
        await asyncio.to_thread(judged.acquire)
    await until(lambda: sum(len(rollout._nodes) for rollout in worker._rollouts.values()) == 3)
    (journal,) = (await worker.stop()).written
    assert set(shop.trees([journal])) == {"q0", "q2"}


# --- helpers


def break_file(path: Path) -> None:
    """Something stands there that cannot be read as a file."""
    path.rename(path.with_suffix(".hidden"))
    path.mkdir()


async def at_once(poll: Any) -> Report:
    """An answer that does not wait for the poll's time."""
    async with asyncio.timeout(20):
        report: Report = await poll
    return report


async def seconds(call: Any) -> float:
    start = time.monotonic()
    await call
    return time.monotonic() - start
