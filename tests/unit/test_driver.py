"""A whole run in one process: a real driver, workers, engines and folder; only the machines between them are missing.

A `Handle` here wraps a `Worker` and can be killed at any call, as a machine is: then nothing of it runs on, what it
held in memory is gone, and every call raises `WorkerLost`.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

import factory.driver
from factory.budget import Budget
from factory.dispatch import BadItem, Dispatch
from factory.driver import Driver, Ended, Handle, Settings, WorkerLost
from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine
from factory.errors import ConfigError, EngineDead, LeaseLost, StorageError
from factory.lease import Lease, acquire
from factory.rows import row_tree
from factory.search.base import Search
from factory.search.best_of_n import best_of_n
from factory.shards import Sidecar, iter_rows, iter_sidecars, problem_states, sidecars
from factory.store import Store
from factory.types import Outcome, Problem, StopReason, Tree
from factory.worker import Assignment, Hello, Identity, Limits, Report, Worker
from tests.rig import POLICY, alone, dice, node_of, number_of, problem, problems, script, tools

T = TypeVar("T")

NEVER = 10**9
"""Event-loop turns: longer than any test."""

_alone = pytest.fixture(autouse=True)(alone)

Fate = Callable[[str, str], str]
"""Of a call (worker, method): `live`; or die `before` it, `after` it, so that its work is done and its answer lost, or
`after writing`, which is the same if there is a file to tell of."""


def lives(_: str, __: str) -> str:
    return "live"


class Machine(Handle):
    """A worker on a machine of its own."""

    def __init__(self, name: str, plant: "Plant") -> None:
        self.name = name
        self.engine = plant.engine(name)
        self._plant = plant
        self._worker: Worker | None = None
        self._died: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def die(self) -> None:
        """As a machine does: at once, and without a word."""
        if self._died.done():
            return
        self._died.set_result(None)
        self.engine.kill()
        if self._worker is not None:
            for task in (self._worker._feeder, *self._worker._tasks):
                task.cancel()

    async def start(self) -> Hello:
        return await self._call("start", self._start())

    async def _start(self) -> Hello:
        await self.engine.start()
        plant = self._plant
        identity = Identity(plant.store.url, plant.lease.epoch, self.name)
        limits = Limits(plant.tries, plant.flush_rows, plant.flush_seconds)
        shared = tools(self.engine, plant.search)
        self._worker = Worker(identity, limits, shared)
        return Hello(self.engine.capabilities, shared.policy)

    async def submit(self, assignments: Sequence[Assignment]) -> None:
        async def submitting() -> None:
            self._running.submit(assignments)

        self._plant.given.update(assignment.problem.id for assignment in assignments)
        await self._call("submit", submitting())

    async def poll(self, seconds: float, hungry: bool, tokens: int | None) -> Report:
        self._plant.polls += 1
        return await self._call("poll", self._running.poll(seconds, hungry, tokens))

    async def stop(self) -> Report:
        return await self._call("stop", self._running.stop())

    async def close(self) -> None:
        self.die()
        if self._worker is not None:
            tasks = (self._worker._feeder, *self._worker._tasks)
            await asyncio.gather(*tasks, return_exceptions=True)
        self._plant.closed.append(self.name)

    @property
    def _running(self) -> Worker:
        assert self._worker is not None
        return self._worker

    async def _call(self, method: str, call: Awaitable[T]) -> T:
        """What the worker answers, unless it dies meanwhile."""
        answering = asyncio.ensure_future(call)
        try:
            fate = self._plant.fate(self.name, method)
            if fate == "before":
                self.die()
            if not self._died.done():
                either: set[asyncio.Future[Any]] = {answering, self._died}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if fate == "after" or (fate == "after writing" and answering.done() and wrote(answering.result())):
                self.die()
            if self._died.done():
                raise WorkerLost(f"{self.name} is gone")
            return answering.result()
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)


def wrote(answer: object) -> bool:
    return isinstance(answer, Report) and bool(answer.written)


@dataclass
class Plant:
    """A run folder, its owner, and where workers come from."""

    store: Store
    lease: Lease
    fate: Fate = lives
    script: Callable[[Prompt, Request], Reply] = field(default_factory=script)
    search: Callable[[Problem], Search] = lambda _: best_of_n(3)
    places: int = 4
    tries: int = 3
    flush_rows: int = 3
    flush_seconds: float = 1000.0
    die_after: Callable[[str], int | None] = lambda _: None
    """After how many requests a worker's engine dies."""
    machines: dict[str, Machine] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    given: Counter[str] = field(default_factory=Counter)
    """How often each problem was given to a worker."""
    polls: int = 0

    def spawn(self, name: str) -> Handle:
        assert name not in self.machines, "names of workers are names of shards: no two may share one"
        self.machines[name] = Machine(name, self)
        return self.machines[name]

    def engine(self, name: str) -> ScriptedEngine:
        return ScriptedEngine(self.script, max_running=self.places, die_after=self.die_after(name))

    def driver(
        self,
        items: Iterable[Problem | BadItem],
        *,
        workers: int = 1,
        budget: Budget | None = None,
    ) -> Driver:
        """A driver of this run, from what is committed and journaled."""
        closed = problem_states(iter_sidecars(self.store, "rollouts"))
        newest = {entry.problem_id: one.name for one in sidecars(self.store, "journal") for entry in one.entries}
        journal = {id: name for id, name in newest.items() if id not in closed}
        settings = Settings(workers, "digest", self.flush_rows, self.flush_seconds, budget or Budget())
        driver = Driver(self.store, self.lease, Dispatch(items, closed, self.tries), self, settings, journal)
        driver.progress.tokens_before = self.tokens_on_disk()
        return driver

    async def run(self, items: Iterable[Problem | BadItem], *, workers: int = 1, budget: Budget | None = None) -> Ended:
        """Drive it, and check that nothing of it is left."""
        return await drive(self.driver(items, workers=workers, budget=budget))

    def trees(self, table: str = "rollouts") -> dict[str, Tree]:
        """What is committed, by the id of the problem; twice is a bug."""
        trees = [row_tree(row) for row in iter_rows(self.store, table)]
        found = {tree.problem.id: tree for tree in trees}
        assert len(found) == len(trees)
        if table == "rollouts":
            assert found.keys() == problem_states(iter_sidecars(self.store, table)).keys()
        return found

    def tokens_on_disk(self) -> int:
        """Tokens of what is committed, or journaled and open."""
        closed = problem_states(iter_sidecars(self.store, "rollouts"))
        journal = sidecars(self.store, "journal")
        newest = {entry.problem_id: (one.name, entry) for one in journal for entry in one.entries}
        entries = [entry for one in sidecars(self.store, "rollouts") for entry in one.entries]
        entries += [entry for id, (_, entry) in newest.items() if id not in closed]
        return sum(entry.counters.get("generated_tokens", 0) for entry in entries)

    def tokens_paid(self) -> int:
        return sum(machine.engine.stats.generated_tokens for machine in self.machines.values())

    def asked(self) -> Counter[tuple[int, int]]:
        """How often any engine was asked for which node of which problem."""
        return Counter(
            (number_of(prompt), node_of(request))
            for machine in self.machines.values()
            for prompt, request in machine.engine.requests
        )

    def again(self) -> "Plant":
        """The same run under a new owner, as after a restart."""
        self.lease.release()
        return Plant(self.store, acquire(self.store), script=self.script, search=self.search, places=self.places)


async def drive(driver: Driver) -> Ended:
    async with asyncio.timeout(30):
        try:
            return await driver.run()
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left running"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls of a quiet worker end sooner, so that a driver soon sees what another worker changed."""
    monkeypatch.setattr(factory.driver, "POLL_SECONDS", 0.02)


@pytest.fixture
async def plant(tmp_path: Path) -> Plant:
    store = Store(str(tmp_path / "run"))
    return Plant(store, acquire(store))


def ids(many: Iterable[Problem]) -> set[str]:
    return {one.id for one in many}


# --- runs without trouble


async def test_every_problem_is_committed_once(plant: Plant) -> None:
    driver = plant.driver(problems(25))
    assert await drive(driver) is Ended.FINISHED
    trees = plant.trees()
    assert trees.keys() == ids(problems(25))
    assert all(tree.error is None and tree.policy == POLICY for tree in trees.values())
    progress = driver.progress
    assert (progress.committed, progress.closed, progress.errors, progress.lost_workers) == (25, 25, 0, 0)
    assert progress.attempts == sum(len(list(tree.leaves())) for tree in trees.values()) == 75
    assert progress.tokens == plant.tokens_paid() == plant.tokens_on_disk()
    assert (progress.trees, progress.running, progress.workers, progress.places) == (0, 0, 0, 0)
    outcomes = Counter(node.outcome for tree in trees.values() for node in tree.nodes)
    judging = progress.judging
    assert (judging.passed, judging.failed, judging.unknown) == tuple(outcomes[outcome] for outcome in Outcome)
    assert (judging.waiting, judging.running) == (0, 0)
    assert plant.closed == ["w000r000"]
    assert plant.trees("journal") == {}


async def test_an_empty_source(plant: Plant) -> None:
    assert await plant.run([]) is Ended.FINISHED
    assert plant.trees() == {}


async def test_a_source_that_is_committed_already(plant: Plant) -> None:
    await plant.run(problems(5))
    again = plant.again()
    assert await again.run(problems(5)) is Ended.FINISHED
    assert again.asked() == Counter()
    assert again.trees().keys() == ids(problems(5))


async def test_a_larger_source_pays_for_what_is_new(plant: Plant) -> None:
    await plant.run(problems(5))
    again = plant.again()
    await again.run(problems(8))
    assert {number for number, _ in again.asked()} == {5, 6, 7}
    assert again.trees().keys() == ids(problems(8))


async def test_two_workers_one_slow(plant: Plant) -> None:
    """The fast one does most, nobody waits for the slow one but at the end, and each problem is done by one."""
    normal = script()

    def at_different_speeds(prompt: Prompt, request: Request) -> Reply:
        slow = any((prompt, request) in one.engine.requests[-1:] for one in slow_ones())
        reply = normal(prompt, request)
        return Reply(reply.text, turns=3000 if slow else 0)

    def slow_ones() -> list[Machine]:
        return [machine for name, machine in plant.machines.items() if name.startswith("w001")]

    plant.script = at_different_speeds
    assert await plant.run(problems(40), workers=2) is Ended.FINISHED
    assert plant.trees().keys() == ids(problems(40))
    by = Counter(row["writer"] for row in iter_rows(plant.store, "rollouts"))
    assert by["w000r000"] > by["w001r000"] > 0
    assert set(plant.given.values()) == {1}


async def test_more_workers_than_problems(plant: Plant) -> None:
    assert await plant.run(problems(1), workers=4) is Ended.FINISHED
    assert plant.trees().keys() == ids(problems(1))


async def test_the_driver_does_not_spin_while_it_waits(plant: Plant) -> None:
    """A worker that is busy for long, and one that has nothing to do, are asked a few times a poll's length."""
    plant.places, plant.search = 1, lambda _: best_of_n(1)
    plant.script = lambda prompt, _: Reply("yes", turns=2000)
    start = time.monotonic()
    await plant.run(problems(6), workers=2)
    assert plant.polls < 60 + 2 * 4 * (time.monotonic() - start) / 0.02


async def test_bad_items_end_as_committed_errors(plant: Plant) -> None:
    bad = [BadItem(f"{number:020x}", f"SourceError: line {number}: not JSON") for number in range(4)]
    assert await plant.run([bad[0], problem(0), bad[1], bad[2], problem(1), bad[3]]) is Ended.FINISHED
    trees = plant.trees()
    assert trees.keys() == ids(problems(2)) | {one.id for one in bad}
    for one in bad:
        tree = trees[one.id]
        assert (tree.stop, tree.error, tree.nodes, tree.problem.messages) == (StopReason.ERROR, one.reason, (), ())
    states = problem_states(iter_sidecars(plant.store, "rollouts"))
    assert {states[one.id].status for one in bad} == {"error"}


async def test_nothing_but_bad_items(plant: Plant) -> None:
    driver = plant.driver([BadItem("ab" * 10, "SourceError: x")])
    assert await drive(driver) is Ended.FINISHED
    assert plant.trees()["ab" * 10].error == "SourceError: x"
    assert (driver.progress.errors, driver.progress.closed) == (1, 1)


async def test_a_problem_that_fails_ends_as_a_committed_error(plant: Plant) -> None:
    normal = script()
    plant.script = lambda prompt, request: (
        Reply("", error="no memory") if number_of(prompt) == 2 else normal(prompt, request)
    )
    driver = plant.driver(problems(5))
    assert await drive(driver) is Ended.FINISHED
    trees = plant.trees()
    assert trees.keys() == ids(problems(5))
    assert trees[problem(2).id].error == "EngineError: scripted engine: no memory"
    assert trees[problem(2).id].tries == 3
    assert driver.progress.errors == 1


# --- workers that die


class Doom:
    """Kills workers at random calls, `most` times at most, two of them while starting.

    A worker that is up lives until it was given something: three in a row that were not would end the run.
    """

    def __init__(self, seed: int, most: int) -> None:
        self._random = random.Random(seed)
        self._most = most
        self._given: set[str] = set()
        self.deaths: list[str] = []

    def __call__(self, worker: str, method: str) -> str:
        chance = 0.4 if method in {"start", "drain", "stop"} else 0.08
        spared = method == "start" and sum(death.startswith("start") for death in self.deaths) >= 2
        spared |= method == "poll" and worker not in self._given
        if method == "submit":
            self._given.add(worker)
        if spared or len(self.deaths) >= self._most or self._random.random() > chance:
            return "live"
        when = self._random.choice(["before", "after"])
        self.deaths.append(f"{method} {when}")
        return when


@pytest.mark.parametrize("seed", range(30))
async def test_whoever_dies_whenever_each_problem_is_committed_once(seed: int, plant: Plant) -> None:
    """Also while starting, and between writing a shard and telling of it."""
    doom = plant.fate = Doom(seed, most=5)
    plant.script = script(lambda number, node: dice(seed, number, node) % 40)
    plant.flush_rows = 1 + seed % 5
    driver = plant.driver(problems(14), workers=1 + seed % 3)
    assert await drive(driver) is Ended.FINISHED
    trees = plant.trees()
    assert trees.keys() == ids(problems(14))
    assert all(tree.error is None or tree.error.startswith("WorkerLost") for tree in trees.values())
    assert len([tree for tree in trees.values() if tree.error]) <= 2
    assert driver.progress.committed == 14
    assert driver.progress.lost_workers == len(doom.deaths)
    judging = driver.progress.judging
    assert (judging.waiting, judging.running) == (0, 0), "of the dead nothing waits"
    assert len(plant.closed) == len(plant.machines)


def test_doom_kills_at_every_kind_of_call() -> None:
    """What the test above relies on."""
    calls = ["start", "submit", "poll", "drain", "stop"]
    seen = set()
    for seed in range(30):
        doom = Doom(seed, most=5)
        for call in calls * 20:
            doom("w", call)
        seen |= set(doom.deaths)
    assert seen == {f"{call} {when}" for call in calls for when in ("before", "after")}


@pytest.mark.parametrize("method", ["start", "submit", "poll", "drain", "stop"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_one_death_at_one_kind_of_call(method: str, when: str, plant: Plant) -> None:
    killed: list[str] = []

    def once(worker: str, called: str) -> str:
        if called == method and not killed:
            killed.append(worker)
            return when
        return "live"

    plant.fate = once
    assert await plant.run(problems(7)) is Ended.FINISHED
    trees = plant.trees()
    assert trees.keys() == ids(problems(7))
    assert all(tree.error is None for tree in trees.values())
    assert killed or method == "drain", "a run may do without"


async def test_a_file_that_was_written_and_not_told_of_does_not_count(plant: Plant) -> None:
    """The worker dies with its report: the file stays, without a sidecar, and its problems are owed again."""
    plant.fate = lambda name, _: "after writing" if name == "w000r000" else "live"
    plant.flush_rows = 2
    await plant.run(problems(6))
    assert plant.trees().keys() == ids(problems(6))
    names = plant.store.names("rollouts")
    assert "part-000001-w000r000-000001.parquet" in names
    assert "part-000001-w000r000-000001.json" not in names


def deadly(plant: Plant, numbers: set[int]) -> Callable[[Prompt, Request], Reply]:
    """A teacher that takes its machine with it when it is asked about one of these."""
    normal = script()

    def reply(prompt: Prompt, request: Request) -> Reply:
        if number_of(prompt) in numbers:
            for machine in plant.machines.values():
                if (prompt, request) in machine.engine.requests[-1:]:
                    machine.die()
        return normal(prompt, request)

    return reply


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("killers", [{3}, {0}, {0, 3}, {9}])
@pytest.mark.parametrize("tries", [1, 3])
async def test_a_problem_that_kills_its_worker_is_blamed_alone(
    killers: set[int], workers: int, tries: int, plant: Plant
) -> None:
    plant.tries = tries
    plant.script = deadly(plant, killers)
    driver = plant.driver(problems(10), workers=workers)
    assert await drive(driver) is Ended.FINISHED
    trees = plant.trees()
    assert trees.keys() == ids(problems(10))
    blamed = {id for id, tree in trees.items() if tree.error is not None}
    assert blamed == {problem(number).id for number in killers}
    assert all((trees[id].error or "").startswith("WorkerLost: ") for id in blamed)
    assert driver.progress.errors == len(killers)


async def test_who_was_with_a_killer_is_unharmed(plant: Plant) -> None:
    """Even if every other problem was in hand at each of the deaths."""
    plant.places = 64
    plant.script = deadly(plant, {4})
    assert await plant.run(problems(5)) is Ended.FINISHED
    assert {tree.error is None for id, tree in plant.trees().items() if id != problem(4).id} == {True}


async def test_an_engine_that_dies_now_and_then_costs_no_finished_generation(plant: Plant) -> None:
    plant.die_after = lambda name: 17 if name < "w000r003" else None
    plant.tries = 5
    plant.script = script(lambda number, node: (number + node) % 5)
    driver = plant.driver(problems(20))
    assert await drive(driver) is Ended.FINISHED
    assert driver.progress.lost_workers == 3
    assert plant.trees().keys() == ids(problems(20))
    assert plant.tokens_paid() == plant.tokens_on_disk(), "all that was generated stands in a tree"


async def test_a_place_where_no_worker_can_start_ends_the_run_with_the_reason(plant: Plant) -> None:
    plant.fate = lambda _, method: "before" if method == "start" else "live"
    with pytest.raises(EngineDead, match=r"3 workers in a row died before they finished anything.*w000r002 is gone"):
        await plant.run(problems(3))
    assert list(plant.machines) == ["w000r000", "w000r001", "w000r002"]
    assert plant.trees() == {}


async def test_an_engine_that_dies_of_every_request_ends_the_run(plant: Plant) -> None:
    """It must not blame one problem after the other."""
    plant.die_after = lambda _: 0
    plant.flush_seconds = 0.001
    with pytest.raises(EngineDead, match="told to die"):
        await plant.run(problems(50))
    assert len(plant.machines) <= 3 + plant.tries
    assert sum(tree.error is not None for tree in plant.trees().values()) <= 3


async def test_one_bad_place_does_not_end_what_goes_on_elsewhere(plant: Plant) -> None:
    plant.fate = lambda name, method: "before" if method == "start" and name.startswith("w001") else "live"
    plant.script = script(lambda _, __: 100)
    assert await plant.run(problems(9), workers=2) is Ended.FINISHED
    assert plant.trees().keys() == ids(problems(9))


async def test_a_worker_that_takes_for_ever_to_start_does_not_hold_up_the_end(plant: Plant) -> None:
    spawn = plant.spawn

    class Slow(Machine):
        async def start(self) -> Hello:
            await asyncio.Event().wait()
            raise AssertionError

    class Pool:
        def spawn(self, name: str) -> Handle:
            return Slow(name, plant) if name.startswith("w001") else spawn(name)

    driver = plant.driver(problems(4), workers=2)
    driver._pool = Pool()
    assert await drive(driver) is Ended.FINISHED
    assert plant.trees().keys() == ids(problems(4))
    assert sorted(plant.closed) == ["w000r000", "w001r000"]


@pytest.mark.parametrize("error", [ConfigError("no such model"), StorageError("the disk is full")])
async def test_what_a_person_can_mend_ends_the_run_at_once(error: Exception, plant: Plant) -> None:
    def fails(name: str, method: str) -> str:
        if method == "start" and name.startswith("w001"):
            raise error
        return "live"

    plant.fate = fails
    plant.script = script(lambda _, __: NEVER)
    with pytest.raises(type(error), match=str(error)):
        await plant.run(problems(4), workers=2)
    assert sorted(plant.closed) == ["w000r000", "w001r000"]


# --- ends before the end


def at_request(number: int, then: Callable[[], object], turns: Callable[[int, int], int]) -> Callable[..., Reply]:
    """A teacher that does something at one request, counted over all workers."""
    normal = script(turns)
    count = 0

    def reply(prompt: Prompt, request: Request) -> Reply:
        nonlocal count
        count += 1
        if count == number:
            then()
        return normal(prompt, request)

    return reply


@pytest.mark.parametrize("at", [1, 5, 20, 30])
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stopped_run_keeps_every_finished_generation(at: int, workers: int, plant: Plant) -> None:
    plant.script = at_request(at, lambda: driver.stop(Ended.INTERRUPTED), lambda number, node: (number + node) % 9)
    driver = plant.driver(problems(20), workers=workers)
    assert await drive(driver) is Ended.INTERRUPTED
    assert plant.tokens_on_disk() == plant.tokens_paid()
    assert not plant.trees().keys() & {id for id, tree in plant.trees("journal").items() if tree.stop}

    again = plant.again()
    again.script = script()
    assert await again.run(problems(20)) is Ended.FINISHED
    assert again.trees().keys() == ids(problems(20))
    assert again.tokens_on_disk() == plant.tokens_paid() + again.tokens_paid()
    every = Counter((number, node) for number in range(20) for node in (1, 2, 3))
    assert set(plant.asked() + again.asked()) == set(every)


async def test_a_driver_that_is_stopped_before_it_starts_does_nothing(plant: Plant) -> None:
    driver = plant.driver(problems(3))
    driver.stop(Ended.INTERRUPTED)
    assert await drive(driver) is Ended.INTERRUPTED
    assert plant.machines == {}


async def test_the_first_reason_counts(plant: Plant) -> None:
    driver = plant.driver(problems(3))
    driver.stop(Ended.CAPPED)
    driver.stop(Ended.INTERRUPTED)
    assert await drive(driver) is Ended.CAPPED


async def test_a_cap_on_tokens_ends_the_run_and_a_higher_one_resumes_it(plant: Plant) -> None:
    plant.script = script(lambda number, node: 20 + (number + node) % 9)
    assert await plant.run(problems(30), budget=Budget(tokens=300)) is Ended.CAPPED
    first = plant.tokens_on_disk()
    assert first == plant.tokens_paid() >= 300
    have = {
        (id, node.id)
        for table in ("rollouts", "journal")
        for id, tree in plant.trees(table).items()
        for node in tree.nodes
    }

    second = plant.again()
    assert await second.run(problems(30), budget=Budget(tokens=800)) is Ended.CAPPED
    assert second.tokens_on_disk() == first + second.tokens_paid() >= 800

    third = second.again()
    assert await third.run(problems(30)) is Ended.FINISHED
    assert third.trees().keys() == ids(problems(30))
    paid_again = {(problem(number).id, node) for number, node in second.asked() + third.asked()}
    assert not have & paid_again
    assert third.tokens_on_disk() == sum(one.tokens_paid() for one in (plant, second, third))


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_cap_on_tokens_is_overrun_by_what_was_in_flight_only(workers: int, plant: Plant) -> None:
    """An answer costs 3 tokens, and a worker has 4 of them in flight; one of the workers is slow."""
    plant.script = lambda prompt, _: Reply("no", turns=0 if number_of(prompt) % 3 else 30)
    assert await plant.run(problems(200), workers=workers, budget=Budget(tokens=300)) is Ended.CAPPED
    assert 300 <= plant.tokens_paid() < 300 + workers * 4 * 3
    assert plant.tokens_on_disk() == plant.tokens_paid()


async def test_a_cap_on_money_counts_tokens_and_hours(plant: Plant) -> None:
    plant.script = lambda _, __: Reply("no", turns=3)
    budget = Budget(money=3.0, token_price=10_000.0)  # 300 tokens
    assert await plant.run(problems(200), budget=budget) is Ended.CAPPED
    assert 300 <= plant.tokens_paid() < 300 + 4 * 3


async def test_a_cap_on_the_engines_time(plant: Plant) -> None:
    plant.script = lambda _, __: Reply("no", turns=3)
    driver = plant.driver(problems(2000), budget=Budget(engine_seconds=0.05))
    assert await drive(driver) is Ended.CAPPED
    assert driver.progress.busy >= 0.05
    assert len(plant.trees()) < 2000
    assert plant.tokens_on_disk() == plant.tokens_paid() > 0


async def test_a_cap_that_is_reached_already_pays_for_nothing(plant: Plant) -> None:
    plant.script = script(lambda _, __: 20)
    await plant.run(problems(30), budget=Budget(tokens=300))
    again = plant.again()
    assert await again.run(problems(30), budget=Budget(tokens=300)) is Ended.CAPPED
    assert again.tokens_paid() == 0


@pytest.mark.parametrize("count", [1, 4, 5])
async def test_a_run_that_finishes_at_its_cap_is_finished(count: int, plant: Plant) -> None:
    """Its last answer reaches the cap: then it is finished or not by what is committed, not by who noticed first."""
    await plant.run(problems(count))
    store = Store(plant.store.url + "-other")
    other = Plant(store, acquire(store))
    ended = await other.run(problems(count), budget=Budget(tokens=plant.tokens_paid()))
    assert (ended is Ended.FINISHED) == (other.trees().keys() == ids(problems(count)))
    assert ended in {Ended.FINISHED, Ended.CAPPED}


async def test_a_run_that_is_stopped_with_nothing_owed_is_finished(plant: Plant) -> None:
    """Also where the source has not been asked for more than it has, and so has not said that it is at its end."""
    await plant.run(problems(4))
    driver = plant.again().driver(problems(4))
    driver.stop(Ended.INTERRUPTED)
    assert await drive(driver) is Ended.FINISHED


async def test_a_cap_on_time(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory.driver, "BEAT_SECONDS", 0.01)
    plant.script = lambda _, request: Reply("no", turns=0 if node_of(request) == 1 else NEVER)
    assert await plant.run(problems(4), budget=Budget(seconds=0.2)) is Ended.CAPPED
    assert plant.tokens_on_disk() == plant.tokens_paid() > 0


@pytest.mark.parametrize("method", ["submit", "poll", "stop"])
async def test_a_worker_that_dies_while_the_run_is_stopped(method: str, plant: Plant) -> None:
    """What it had is lost, and the run ends in order all the same."""
    plant.script = at_request(9, lambda: driver.stop(Ended.INTERRUPTED), lambda _, __: 5)
    plant.fate = lambda _, called: "before" if called == method and driver._stopping else "live"
    driver = plant.driver(problems(20))
    assert await drive(driver) is Ended.INTERRUPTED
    again = plant.again()
    again.script = script()
    assert await again.run(problems(20)) is Ended.FINISHED
    assert again.trees().keys() == ids(problems(20))
    assert all(tree.error is None for tree in again.trees().values())


# --- the lease


async def test_a_run_that_is_taken_over_ends_and_nothing_later_counts(plant: Plant) -> None:
    takers: list[Lease] = []
    counted: list[list[Sidecar]] = []

    normal = script(lambda number, node: 20 + (number + node) % 9)

    def taken_over_on_the_way(prompt: Prompt, request: Request) -> Reply:
        if driver.progress.committed >= 3 and not takers:
            takers.append(acquire(plant.store, ttl=0.0))
            counted.append(sidecars(plant.store, "rollouts"))
        return normal(prompt, request)

    plant.flush_rows, plant.script = 1, taken_over_on_the_way
    driver = plant.driver(problems(30))
    with pytest.raises(LeaseLost):
        await drive(driver)
    assert sidecars(plant.store, "rollouts") == counted[0] != []
    assert 0 < len(plant.trees()) < 30

    heir = Plant(plant.store, takers[0])
    assert await heir.run(problems(30), workers=2) is Ended.FINISHED
    assert heir.trees().keys() == ids(problems(30))


async def test_a_driver_that_commits_nothing_notices_a_takeover_too(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory.driver, "BEAT_SECONDS", 0.01)
    plant.lease.ttl = 0.05
    plant.script = at_request(3, lambda: acquire(plant.store, ttl=0.0), lambda _, __: NEVER)
    with pytest.raises(LeaseLost):
        await plant.run(problems(3))
    assert plant.trees() == {}


async def test_the_heart_beats_while_the_run_lasts(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory.driver, "BEAT_SECONDS", 0.01)
    plant.lease.ttl = 0.05
    before = plant.lease.record.heartbeat
    plant.script = lambda _, __: Reply("no", turns=NEVER)
    await plant.run(problems(3), budget=Budget(seconds=0.2))
    assert plant.lease.record.heartbeat > before
