"""A rollout that is interrupted anywhere and replayed pays for nothing twice and ends as if nothing had happened."""

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine, written
from factory.rollout import Rollout, Tools
from factory.rows import row_tree, tree_row
from factory.search.base import Ending, Expansion, Search, Wants
from factory.search.best_of_n import best_of_n
from factory.search.ladder import ladder
from factory.types import ROOT, Node, NodeState, Problem, StopReason, Tree
from tests.rig import answers, dice, node_of, number_of, problem, tools

P = ParamSpec("P")
T = TypeVar("T")


class Inline(Executor):
    """Judges at once, in the caller's thread: the order of events is then the event loop's alone, and repeats."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def by_lines(most: int) -> Callable[[Problem], Search]:
    """One chain of steps, each a line."""

    def search(_: Problem) -> Search:
        parent, id = ROOT, 0
        while id < most:
            id += 1
            ((grown),) = yield Wants((Expansion(id, parent, stop=("\n",)),))
            if grown.node is None or grown.node.state is not NodeState.OPEN:
                break
            parent = id
        return Ending(StopReason.EXHAUSTED, frozenset({id}))

    return search


def script(delays: int) -> Callable[[Prompt, Request], Reply]:
    """Whole answers for attempts, lines for steps; how many turns each takes hangs on `delays`."""

    def reply(prompt: Prompt, request: Request) -> Reply:
        number, node = number_of(prompt), node_of(request)
        turns = dice("turns", delays, number, node) % 6
        if request.stop:
            lines = "\n".join(f"line {line}" for line in range(dice("lines", number) % 6)) + "\nat last yes"
            return Reply(lines.removeprefix(written(prompt)), turns=turns)
        return Reply(answers(number, node), turns=turns)

    return reply


@dataclass
class Setting:
    """What is rolled out, and how soon the engine answers."""

    number: int
    search: Callable[[Problem], Search]
    places: int

    def tools(self, delays: int) -> tuple[ScriptedEngine, Tools]:
        engine = ScriptedEngine(script(delays), max_running=self.places)
        return engine, tools(engine, self.search, pool=Inline())

    async def run(self, delays: int, recorded: Sequence[Node] = ()) -> tuple[Tree, list[int]]:
        """The closed tree, and the ids that the engine was asked for."""
        engine, shared = self.tools(delays)
        await engine.start()
        tree = await Rollout(problem(self.number), shared, recorded).run()
        assert shared.load.outstanding == engine.stats.running == engine.stats.waiting == 0
        return tree, [node_of(request) for _, request in engine.requests]

    async def interrupted(self, delays: int, after: int, recorded: Sequence[Node] = ()) -> Tree:
        """The snapshot of a rollout that is cancelled after so many event-loop turns."""
        engine, shared = self.tools(delays)
        await engine.start()
        rollout = Rollout(problem(self.number), shared, recorded)
        run = asyncio.create_task(rollout.run())
        for _ in range(after):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert shared.load.outstanding == engine.stats.running == engine.stats.waiting == 0
        return rollout.snapshot()


def best_of(n: int, wave: int | None, stop_at: int | None) -> Callable[[Problem], Search]:
    return lambda _: best_of_n(n, wave, stop_at)


def climbing(low: int, high: int, stop_at: int | None) -> Callable[[Problem], Search]:
    """Two rungs, and a third for what is not hopeless by then."""
    rungs = [lambda missing: best_of_n(low, None, missing), lambda missing: best_of_n(high, 2, missing)]
    return lambda _: ladder([*rungs, rungs[0]], stop_at, hopeless_after=40)


settings = st.builds(
    Setting,
    number=st.integers(0, 999),
    search=st.one_of(
        st.builds(best_of, st.integers(1, 8), st.none() | st.integers(1, 8), st.none() | st.integers(1, 3)),
        st.builds(by_lines, st.integers(1, 8)),
        st.builds(climbing, st.integers(1, 4), st.integers(1, 4), st.none() | st.integers(1, 3)),
    ),
    places=st.integers(1, 8),
)
delays = st.integers(0, 2**16)


def journaled(tree: Tree) -> Tree:
    """Through the journal and back."""
    return row_tree(tree_row(tree, epoch=1, writer="w", closed_at=datetime.now(UTC)))


def timeless(node: Node) -> Node:
    return replace(
        node, seconds=0.0, engine_seconds=0.0, verdicts=tuple(replace(one, seconds=0.0) for one in node.verdicts)
    )


def counted(tree: Tree) -> list[Node]:
    return [timeless(node) for node in tree.nodes if node.counted]


def check_invariants(tree: Tree) -> None:
    """What holds of every tree, open or closed."""
    by_id: dict[int, Node] = {}
    last = ROOT
    for node in tree.nodes:
        assert node.id > last or tree.stop is None, "in the order of their ids, once it is closed"
        assert node.id not in by_id
        last = node.id
        parent = by_id.get(node.parent)
        behind = {NodeState.OPEN} if node.role == "assistant" else {NodeState.FINISHED}
        assert node.parent == ROOT or (parent is not None and parent.state in behind)
        assert node.verdicts == () or node.state is NodeState.FINISHED
        assert node.verdicts or node.state is not NodeState.FINISHED or not node.counted or tree.stop is None
        by_id[node.id] = node
    assert tree.cost.generated_tokens == sum(node.generated_tokens for node in tree.nodes)
    assert (tree.error is not None) == (tree.stop is StopReason.ERROR)


@given(settings, delays, delays)
def test_the_order_of_answers_decides_nothing_that_counts(setting: Setting, one: int, other: int) -> None:
    first, asked = asyncio.run(setting.run(one))
    second, _ = asyncio.run(setting.run(other))
    check_invariants(first)
    assert counted(first) == counted(second)
    assert (first.stop, first.search) == (second.stop, second.search)
    assert asked == sorted(set(asked)), "each is asked for once"


@given(settings, st.lists(st.tuples(delays, st.integers(0, 60)), min_size=1, max_size=3), delays)
def test_a_replay_from_anywhere_pays_for_nothing_twice(
    setting: Setting, interruptions: list[tuple[int, int]], last: int
) -> None:
    """Interrupted once or several times, at any event-loop turn, journaled each time."""
    undisturbed, _ = asyncio.run(setting.run(last))
    recorded: tuple[Node, ...] = ()
    for delay, after in interruptions:
        snapshot = asyncio.run(setting.interrupted(delay, after, recorded))
        check_invariants(snapshot)
        before, recorded = recorded, journaled(snapshot).nodes
        assert {node.id for node in before} <= {node.id for node in recorded}
    tree, asked = asyncio.run(setting.run(last, recorded))
    check_invariants(tree)
    have = {node.id for node in recorded}
    assert not have & set(asked)
    assert have <= {node.id for node in tree.nodes}, "what was paid for stays"
    assert counted(tree) == counted(undisturbed)
    assert tree.stop == undisturbed.stop


@given(settings, delays, st.randoms(use_true_random=False))
def test_a_replay_of_any_part_of_a_tree_gives_the_whole(setting: Setting, delay: int, pick: random.Random) -> None:
    """Whatever is left of the record: verdicts may be missing, and so may nodes whose parents are there."""
    whole, _ = asyncio.run(setting.run(delay))
    kept: dict[int, Node] = {}
    for node in whole.nodes:
        if pick.random() < 0.6 and (node.parent == ROOT or node.parent in kept):
            kept[node.id] = replace(node, verdicts=()) if pick.random() < 0.3 else node
    again, asked = asyncio.run(setting.run(delay + 1, tuple(kept.values())))
    check_invariants(again)
    assert not kept.keys() & set(asked)
    assert counted(again) == counted(whole)


@pytest.mark.parametrize("search", [best_of(8, 3, 2), best_of(8, None, 1), by_lines(8)])
def test_at_every_single_turn(search: Callable[[Problem], Search]) -> None:
    """The same without chance: one problem, interrupted after 0, 1, 2, ... event-loop turns until it is done."""
    setting = Setting(number=4, search=search, places=3)
    undisturbed, _ = asyncio.run(setting.run(1))
    sizes, asked = set(), [0]
    for after in range(200):
        recorded = asyncio.run(setting.interrupted(0, after)).nodes
        tree, asked = asyncio.run(setting.run(1, recorded))
        assert not {node.id for node in recorded} & set(asked)
        assert counted(tree) == counted(undisturbed)
        sizes.add(len(recorded))
        if not asked:
            break
    assert not asked, "the last one found everything recorded"
    assert len(sizes) > 2
