"""The work of one node's engine: many rollouts in flight, shards written, events told to the driver.

A `Worker` owns an engine, keeps it full, and writes what is finished to shards of its own name. It never commits: it
tells the driver of a written file, and the driver's sidecar makes it count. It knows nothing of Ray; `cluster` puts one
into an actor.

Back-pressure: a problem is begun when the requests of those that are open do not fill the engine (`admission`), so its
waiting queue stays short, and while verifiers follow (`judging`); the driver is asked for as many problems as that
takes, and a few more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from factory.engines.base import Capabilities, EngineStats
from factory.errors import ConfigError, CorruptShard, EngineDead, classify
from factory.judging import JudgingStats
from factory.rollout import Rollout, Tools
from factory.rows import ROLLOUTS, Row, is_right, row_tree, tree_row
from factory.shards import Entry, ShardWriter, Status, Written, read_rows
from factory.store import Store
from factory.types import Policy, Problem, StopReason, Tree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How a worker spends memory and time."""

    tries: int
    """Failed tries after which a problem is written as an error."""
    flush_rows: int
    flush_seconds: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose shards these are."""

    run_url: str
    epoch: int
    name: str
    """Of the worker; part of the names of its shards."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker tells once its engine is up."""

    capabilities: Capabilities
    policy: Policy


@dataclass(frozen=True, slots=True)
class Assignment:
    """A problem to work on."""

    problem: Problem
    journal: str | None = None
    """Name of the journal shard that holds finished generations of it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last report."""

    written: tuple[Written, ...] = ()
    room: int = 0
    """How many more problems the worker would take."""
    trees: int = 0
    """Trees in flight."""
    idle: bool = False
    """Nothing is queued or in flight."""
    attempts: int = 0
    """Leaves since the last report."""
    right: int = 0
    solved: int = 0
    """Trees closed with a right leaf since the last report."""
    closed: int = 0
    engine: EngineStats = field(default_factory=EngineStats)
    busy_seconds: float = 0.0
    """In which the engine had requests, since it was started."""
    judging: JudgingStats = field(default_factory=JudgingStats)
    dead: str | None = None
    """Why the engine will answer no more; None while it lives."""


class Worker:
    """Runs problems until it is stopped. All methods belong to one event loop."""

    def __init__(self, identity: Identity, limits: Limits, tools: Tools) -> None:
        self._identity = identity
        self._limits = limits
        self._tools = tools
        self._store = Store(identity.run_url)
        self._queue: deque[Assignment] = deque()
        self._rollouts: dict[str, Rollout] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._recalled: dict[str, dict[str, Tree]] = {}
        self._written: list[Written] = []
        self._tally = _Tally()
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._granted: int | None = None
        self._told_spent = False
        self._dead: str | None = None
        self._mistake: ConfigError | None = None
        self._shard = self._writer("rollouts")
        tools.load.may_begin = lambda: not self._is_spent()
        self._feeder = asyncio.create_task(self._feed())

    def submit(self, assignments: Iterable[Assignment]) -> None:
        """Queue problems; they start as the engine has room."""
        self._queue.extend(assignments)
        self._tools.load.changed.set()

    async def poll(self, seconds: float, hungry: bool, tokens: int | None = None) -> Report:
        """What happened, as soon as something did that the driver must know, or after `seconds`.

        `hungry`: the driver has problems to give, so room for one is news. `tokens`: how many the engine may have
        generated in all when a request goes in, from now on; None for any number. Raises ConfigError if the engine
        refuses what the recipe asks of every request.
        """
        self._grant(tokens)
        deadline = time.monotonic() + seconds
        while True:
            self._wake.clear()
            if self._shard.due() or (self._idle and not hungry):  # nothing more will come: do not wait for more rows
                await self._flush(self._shard)
            left = deadline - time.monotonic()
            if self._mistake is not None:
                raise self._mistake
            if self._news(hungry) or left <= 0:
                return self._report()
            with contextlib.suppress(TimeoutError):  # a quiet worker still flushes by time and reports its counters
                await asyncio.wait_for(self._wake.wait(), min(left, self._limits.flush_seconds))

    async def stop(self) -> Report:
        """End in order: cancel what is in flight, journal open trees, write out what is finished."""
        self._queue.clear()
        self._feeder.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._feeder, *self._tasks, return_exceptions=True)
        await self._flush(self._shard)
        await self._journal([rollout.snapshot() for rollout in self._rollouts.values()])
        return self._report()

    def _grant(self, tokens: int | None) -> None:
        if tokens != self._granted:
            self._granted, self._told_spent = tokens, False
            self._tools.load.reconsider()

    def _is_spent(self) -> bool:
        return self._granted is not None and self._tools.engine.stats.generated_tokens >= self._granted

    async def _feed(self) -> None:
        """Start queued problems while the engine has places for them, and the verifiers can follow."""
        load = self._tools.load
        places = self._tools.engine.capabilities.max_running
        while True:
            await load.changed.wait()
            load.changed.clear()
            while self._queue and not self._dead and self._has_room(places):
                await self._begin(self._queue[0])
                await asyncio.sleep(0)  # lets the rollout ask for its first generations, so that they count
            if self._room() or self._is_spent():
                self._wake.set()

    def _has_room(self, places: int) -> bool:
        """Whether another problem may begin."""
        return self._tools.load.wants_problem(len(self._rollouts)) and not self._tools.judging.full(places)

    async def _begin(self, assignment: Assignment) -> None:
        """Start the problem at the head of the queue, which it leaves once its journal is read."""
        try:
            before = await self._recall(assignment)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next worker may fare better
            log.warning("cannot read journal shard %s: %s", assignment.journal, classify(error))
            self._die(f"the worker cannot read journal shard {assignment.journal}: {classify(error)}")
            return
        self._queue.popleft()
        task = asyncio.create_task(self._work(assignment.problem, before))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._idle:
            self._wake.set()

    async def _work(self, problem: Problem, before: Tree | None) -> None:
        try:
            tree = await self._tree(problem, before)
        except ConfigError as error:  # no problem's fault: every other would fail in the same way
            self._mistake = error
            self._die(classify(error))
            return
        except EngineDead as error:
            self._die(classify(error))
            return  # the rollout stays in the table: `stop` journals what it has
        except Exception:
            log.exception("worker failed on problem %s", problem.id)
            self._die(f"the worker failed on problem {problem.id}")
            raise
        del self._rollouts[problem.id]
        self._add(tree)

    async def _tree(self, problem: Problem, before: Tree | None) -> Tree:
        """Try until a tree is closed; after the last try, the tree that has the error and all that was paid for."""
        recorded = () if before is None else before.nodes
        tries = 1 if before is None else before.tries
        while True:
            rollout = self._rollouts[problem.id] = Rollout(problem, self._tools, recorded, tries)
            try:
                return await rollout.run()
            except (EngineDead, ConfigError):
                raise
            except Exception as error:  # noqa: BLE001 - a bad rollout is data: whatever fails a problem fails it alone
                log.warning("try %d of problem %s failed: %s", tries, problem.id, classify(error))
                if tries >= self._limits.tries:
                    return rollout.snapshot(error=classify(error))
                recorded = rollout.snapshot().nodes
                tries += 1

    async def _recall(self, assignment: Assignment) -> Tree | None:
        if assignment.journal is None:
            return None
        if assignment.journal not in self._recalled:
            self._recalled[assignment.journal] = await asyncio.to_thread(self._journaled, assignment.journal)
        return self._recalled[assignment.journal].pop(assignment.problem.id, None)

    def _journaled(self, name: str) -> dict[str, Tree]:
        try:
            trees = [row_tree(row) for row in read_rows(self._store, "journal", name)]
        except (FileNotFoundError, CorruptShard) as error:
            log.warning("journal shard %s is lost, its trees begin anew: %s", name, classify(error))
            trees = []
        return {tree.problem.id: tree for tree in trees}

    def _add(self, tree: Tree) -> None:
        try:
            self._shard.add(self._row(tree), entry_of(tree))
        except ValueError as error:  # text or numbers that no table can hold: the tree is lost, its problem is not
            tree = replace(tree, nodes=(), stop=StopReason.ERROR, error=classify(error))
            self._shard.add(self._row(tree), entry_of(tree))
        self._tally.count(tree)
        if self._shard.due():
            self._wake.set()

    def _die(self, reason: str) -> None:
        self._dead = self._dead or reason
        self._wake.set()

    async def _flush(self, shard: ShardWriter) -> None:
        async with self._flushing:
            written = await asyncio.to_thread(shard.flush)
        if written is not None:
            self._written.append(written)

    async def _journal(self, trees: Iterable[Tree]) -> None:
        shard = self._writer("journal")
        for tree in trees:
            if tree.nodes:
                try:
                    shard.add(self._row(tree), entry_of(tree))
                except ValueError as error:  # what no table can hold is lost, and nothing else with it
                    log.warning("the open tree of problem %s cannot be stored: %s", tree.problem.id, classify(error))
        await self._flush(shard)

    def _row(self, tree: Tree) -> Row:
        return tree_row(tree, epoch=self._identity.epoch, writer=self._identity.name, closed_at=datetime.now(UTC))

    def _writer(self, table: str) -> ShardWriter:
        me = self._identity
        return ShardWriter(
            self._store,
            table,
            ROLLOUTS,
            me.epoch,
            me.name,
            max_rows=self._limits.flush_rows,
            max_seconds=self._limits.flush_seconds,
        )

    @property
    def _idle(self) -> bool:
        return not (self._queue or self._tasks)

    def _room(self) -> int:
        """Problems wanted: a sixteenth of the engine's places waits here, so that no place waits for the driver."""
        reserve = max(4, self._tools.engine.capabilities.max_running // 16)
        return 0 if self._dead else max(0, reserve - len(self._queue))

    def _news(self, hungry: bool) -> bool:
        spent = self._is_spent() and not self._told_spent and bool(self._rollouts)  # more may be granted
        return bool(self._written or self._dead or spent or (hungry and self._room()))

    def _report(self) -> Report:
        written, self._written = tuple(self._written), []
        tally, self._tally = self._tally, _Tally()
        self._told_spent = self._is_spent()
        return Report(
            written=written,
            room=self._room(),
            trees=len(self._rollouts),
            idle=self._idle,
            attempts=tally.attempts,
            right=tally.right,
            solved=tally.solved,
            closed=tally.closed,
            engine=self._tools.engine.stats,
            busy_seconds=self._tools.load.busy(),
            judging=self._tools.judging.stats,
            dead=self._dead,
        )


class _Tally:
    """Counts between two reports."""

    def __init__(self) -> None:
        self.attempts = self.right = self.solved = self.closed = 0

    def count(self, tree: Tree) -> None:
        self.attempts += sum(1 for _ in tree.leaves())
        right = sum(map(is_right, tree.nodes))
        self.right += right
        self.solved += bool(right)
        self.closed += 1


def entry_of(tree: Tree) -> Entry:
    """What a sidecar says of a tree."""
    right = sum(map(is_right, tree.nodes))
    counters = {
        "generated_tokens": tree.cost.generated_tokens,
        "engine_milliseconds": round(1000 * tree.cost.engine_seconds),
        "attempts": sum(1 for _ in tree.leaves()),
        "right": right,
    }
    return Entry(tree.problem.id, _status(tree, right), tree.error, counters)


def _status(tree: Tree, right: int) -> Status:
    if tree.stop is None:
        return "open"
    if tree.error is not None:
        return "error"
    return "solved" if right else "unsolved"
