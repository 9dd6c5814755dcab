"""Chains side by side: whatever comes back in whatever order, counted right, and replayed from anywhere.

Budget forcing and revision are played twice: with hand-made nodes that no engine would give, and through real rollouts
on the scripted engine with a model that does as it likes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine, written
from factory.rollout import Rollout, Tools
from factory.search.base import Ending, Expansion, Grown, Search
from factory.search.best_of_n import best_of_n
from factory.search.budget_forcing import Forcing, budget_forcing
from factory.search.growth import is_right
from factory.search.revise import revise
from factory.types import ROOT, Aspect, Node, NodeState, Origin, Outcome, Sampling, StopReason, Tree, Verdict
from tests.property.test_rollout_property import Inline, check_invariants, counted, journaled
from tests.rig import POLICY, dice, node_of, number_of, problem, tools

END, WAIT, CUE, CRITICISM = "</t>", "hm\n", "!</t> so ", "that is wrong"

Begin = Callable[[], Search]


@st.composite
def forcings(draw: st.DrawFn) -> Forcing:
    """With room for `wait` behind the least thinking, as a pipeline sees to it."""
    least = draw(st.integers(0, 20))
    last = draw(st.integers(least + len(WAIT), 40))
    boundary = draw(st.none() | st.just("\n"))
    slack = draw(st.integers(1, 12))
    return Forcing(least, last + (slack if boundary else 0), END, WAIT, CUE, boundary, slack)


@dataclass(frozen=True)
class Strategy:
    """One of them, with its numbers."""

    n: int
    wave: int | None
    stop_at: int | None
    forcing: Forcing | None = None
    turns: int = 0
    always: bool = False

    def search(self) -> Search:
        if self.forcing is not None:
            return budget_forcing(self.n, self.forcing, wave=self.wave, stop_at=self.stop_at)
        if self.turns:
            return revise(self.n, self.turns, CRITICISM, always=self.always, wave=self.wave, stop_at=self.stop_at)
        return best_of_n(self.n, self.wave, self.stop_at)

    @property
    def most_pieces(self) -> int:
        """Of one chain."""
        if self.forcing is not None:
            return (
                2 * self.forcing.min_thinking + 4
            )  # a wait adds a token at least, and each has a generation before it
        return 1 + 2 * self.turns


strategies = st.builds(
    Strategy,
    n=st.integers(1, 5),
    wave=st.none() | st.integers(1, 5),
    stop_at=st.none() | st.integers(1, 3),
    forcing=st.none() | forcings(),
    turns=st.integers(0, 3),
    always=st.booleans(),
)


# --- with hand-made nodes


@dataclass
class Played:
    """One search, played to its end."""

    asked: list[Expansion] = field(default_factory=list)
    nodes: dict[int, Node] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    most_outstanding: int = 0

    def first(self, id: int) -> int:
        """The first node of the chain that a node belongs to: its place among all chains."""
        while self.nodes[id].parent != ROOT:
            id = self.nodes[id].parent
        return id


def made(expansion: Expansion, rng: random.Random) -> Node:
    """Anything that a rollout could give for it."""
    verdicts: tuple[Verdict, ...] = ()
    if expansion.inject is not None:
        text, state = expansion.inject, NodeState.OPEN
    else:
        states = [NodeState.TRUNCATED] + [NodeState.FINISHED] * 4 * expansion.may_end
        states += [NodeState.OPEN] * 6 if expansion.stop else []
        state = rng.choice(states)
        text = "".join(rng.choice(["a", "b", "\n", END]) for _ in range(rng.randint(0, 5)))
        outcome = rng.choice([Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN])
        verdicts = (Verdict("hand", "1", Aspect.ANSWER, outcome, None, "", 0.0),)
    ids = tuple(range(min(len(text), expansion.max_tokens or 99)))
    return Node(
        id=expansion.id,
        parent=expansion.parent,
        text=text,
        token_ids=ids,
        logprobs=None,
        origin=Origin.SAMPLED if expansion.inject is None else Origin.INJECTED,
        state=state,
        score=None,
        verdicts=verdicts if state is NodeState.FINISHED else (),
        counted=True,
        generated_tokens=len(ids),
        prompt_tokens=1,
        cached_tokens=None,
        seconds=0.0,
    )


def play(strategy: Strategy, rng: random.Random, heeds: float) -> tuple[Played, Ending]:
    """Nodes come back in any order and grouping. `heeds`: the chance that a cancelled one comes back without a node."""
    played = Played()
    outstanding: dict[int, Expansion] = {}
    search = strategy.search()
    try:
        wants = next(search)
        while True:
            check_wants(played, wants.expand, wants.cancel, outstanding)
            outstanding |= {one.id: one for one in wants.expand}
            played.most_outstanding = max(played.most_outstanding, len(outstanding))
            together = rng.sample(sorted(outstanding), rng.randint(1, len(outstanding)))
            grown = []
            for id in together:
                expansion = outstanding.pop(id)
                gone = id in played.cancelled and rng.random() < heeds
                node = None if gone else made(expansion, random.Random(f"{id} {expansion.parent}"))
                grown.append(Grown(expansion, node))
                if node is not None:
                    played.nodes[id] = node
            wants = search.send(tuple(grown))
    except StopIteration as stop:
        assert not outstanding, "nothing outstanding is forgotten"
        return played, stop.value


def check_wants(
    played: Played, expand: Sequence[Expansion], cancel: Sequence[int], outstanding: dict[int, Expansion]
) -> None:
    assert set(cancel) <= outstanding.keys()
    played.cancelled |= set(cancel)
    for one in expand:
        assert one.id == len(played.asked) + 1
        played.asked.append(one)
        if one.parent != ROOT:
            state = played.nodes[one.parent].state
            assert state is NodeState.OPEN or (one.inject is not None and state is NodeState.FINISHED)
        assert one.max_tokens is None or one.max_tokens >= 1
        assert one.max_tokens is None or one.min_tokens <= one.max_tokens
    assert expand or outstanding


@given(strategies, st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 1.0]))
def test_any_nodes_in_any_order(strategy: Strategy, seed: int, heeds: float) -> None:
    played, ending = play(strategy, random.Random(seed), heeds)
    chains = [one.id for one in played.asked if one.parent == ROOT]
    assert len(chains) <= strategy.n
    assert len(played.asked) <= strategy.n * strategy.most_pieces
    assert played.most_outstanding <= min(strategy.wave or strategy.n, strategy.n)
    assert len({one.parent for one in played.asked if one.parent != ROOT}) == len(played.asked) - len(chains)
    leaves = {id for id, node in played.nodes.items() if node.state is not NodeState.OPEN}
    assert ending.counted <= leaves
    assert not played.cancelled & ending.counted
    right = [node.id for node in played.nodes.values() if is_right(node) and node.id in ending.counted]
    if strategy.stop_at is None:
        assert not played.cancelled
        assert ending.counted == leaves
        assert ending.stop is (StopReason.SOLVED if right else StopReason.EXHAUSTED)
        return
    solved = len(right) >= strategy.stop_at
    assert ending.stop is (StopReason.SOLVED if solved else StopReason.EXHAUSTED)
    place = {id: number for number, id in enumerate(chains)}
    last = max((place[played.first(id)] for id in right), default=0) if solved else len(chains)
    assert ending.counted == {id for id in leaves if place[played.first(id)] <= last}
    assert solved or not played.cancelled


# --- through rollouts


def model(delays: int) -> Callable[[Prompt, Request], Reply]:
    """Rambles, ends its thinking or its turn where it likes, and answers rightly or not, by the node's own number."""

    def reply(prompt: Prompt, request: Request) -> Reply:
        number, node = number_of_problem(prompt), node_of(request)
        rng = random.Random(f"{number} {node}")
        rambling = "".join(rng.choice(["ab", "cde\n", "\n", "</t"]) for _ in range(rng.randint(0, 12)))
        thinks = END not in written(prompt) and rng.random() < 0.8
        text = f"{rambling}{END}" if thinks else ""
        if rng.random() < 0.9:
            text += rng.choice([" yes", " no", " no", " huh", "x" * 80])
        return Reply(text, turns=dice("turns", delays, number, node) % 6)

    return reply


def number_of_problem(prompt: Prompt) -> int:
    return number_of(replace(prompt, messages=prompt.messages[:1]))


@dataclass
class Setting:
    """A strategy on a problem."""

    number: int
    strategy: Strategy
    places: int

    def tools(self, delays: int) -> tuple[ScriptedEngine, Tools]:
        engine = ScriptedEngine(model(delays), max_running=self.places)
        policy = replace(POLICY, sampling=Sampling(max_tokens=70))
        return engine, tools(engine, lambda _: self.strategy.search(), policy=policy, pool=Inline())

    async def run(self, delays: int, recorded: Sequence[Node] = ()) -> tuple[Tree, list[int], Sequence[Node]]:
        """The closed tree, the ids that the engine was asked for, and the nodes in the order in which they came."""
        engine, shared = self.tools(delays)
        await engine.start()
        rollout = Rollout(problem(self.number), shared, recorded)
        tree = await rollout.run()
        return tree, [node_of(request) for _, request in engine.requests], rollout.snapshot().nodes

    async def interrupted(self, delays: int, after: int, recorded: Sequence[Node] = ()) -> Tree:
        engine, shared = self.tools(delays)
        await engine.start()
        rollout = Rollout(problem(self.number), shared, recorded)
        run = asyncio.create_task(rollout.run())
        for _ in range(after):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return rollout.snapshot()


settings = st.builds(Setting, number=st.integers(0, 999), strategy=strategies, places=st.integers(1, 8))
forced = st.builds(
    Setting,
    number=st.integers(0, 999),
    strategy=st.builds(Strategy, n=st.integers(1, 5), wave=st.none(), stop_at=st.none(), forcing=forcings()),
    places=st.integers(1, 8),
)
delays = st.integers(0, 2**16)


def thinking(path: Sequence[Node], forcing: Forcing) -> int:
    """Characters before the answer: to the end that the model wrote first, or to the cue. Reads texts only."""
    for place, node in enumerate(path):
        if node.text == CUE and node.origin is Origin.INJECTED:
            return sum(len(one.text) for one in path[:place])
    whole = "".join(node.text for node in path)
    return whole.index(forcing.end) + len(forcing.end)


@given(forced, delays)
def test_every_attempt_thinks_within_its_bounds_and_answers(setting: Setting, delay: int) -> None:
    forcing = setting.strategy.forcing
    assert forcing is not None
    tree, *_ = asyncio.run(setting.run(delay))
    check_invariants(tree)
    leaves = list(tree.leaves())
    assert len(leaves) == setting.strategy.n
    for leaf in leaves:
        path = tree.path(leaf.id)
        assert forcing.min_thinking <= thinking(path, forcing) <= forcing.max_thinking
        assert {node.text for node in path if node.origin is Origin.INJECTED} <= {WAIT, CUE}
        assert path[-1].origin is Origin.SAMPLED
        assert all(len(node.token_ids or ()) == len(node.text) for node in path)
        assert leaf.state is NodeState.FINISHED or "x" in leaf.text, "only an answer without end is cut"


@given(settings, st.lists(st.tuples(delays, st.integers(0, 60)), min_size=1, max_size=3), delays)
def test_a_replay_from_anywhere_pays_for_nothing_twice(
    setting: Setting, interruptions: list[tuple[int, int]], last: int
) -> None:
    recorded: tuple[Node, ...] = ()
    for delay, after in interruptions:
        snapshot = asyncio.run(setting.interrupted(delay, after, recorded))
        check_invariants(snapshot)
        before, recorded = recorded, journaled(snapshot).nodes
        assert {node.id for node in before} <= {node.id for node in recorded}
    tree, asked, _ = asyncio.run(setting.run(last, recorded))
    check_invariants(tree)
    have = {node.id for node in recorded}
    assert not have & set(asked)
    assert have <= {node.id for node in tree.nodes}, "what was paid for stays"


@given(settings, delays, delays)
def test_the_same_nodes_in_the_same_order_give_the_same_tree(setting: Setting, delay: int, other: int) -> None:
    first, _, came = asyncio.run(setting.run(delay))
    again, *_ = asyncio.run(setting.run(delay))
    assert counted(first) == counted(again)
    replayed, asked, _ = asyncio.run(setting.run(other, came))
    assert counted(first) == counted(replayed)
    assert not {node.id for node in first.nodes} & set(asked), "what was cancelled may be asked for again"
