"""Tree searches in rollouts: interrupted anywhere and resumed, they pay for nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine
from factory.rollout import Tools
from factory.scorers.base import Score
from factory.search.base import Search
from factory.search.beam import beam
from factory.search.dvts import dvts
from factory.search.growth import Step
from factory.search.mcts import Puct, mcts
from factory.search.value import Valuation
from factory.types import Node, Problem, Scoring, Tree
from tests.property.test_rollout_property import Setting, check_invariants, journaled, timeless
from tests.rig import answers, dice, node_of, number_of


class Dice:
    """Scores by a node's place; in trouble now and then. It may take its time."""

    name = "dice"

    def __init__(self, delays: int) -> None:
        self._delays = delays
        self.asked: list[int] = []

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:
        id = path[-1].id
        self.asked.append(id)
        for _ in range(dice("scoring", self._delays, id) % 4):
            await asyncio.sleep(0)
        throw = dice("score", problem.id, id) % 5
        return Score(None if throw == 4 else throw / 4, None if throw % 2 else Scoring(1, 2))


def script(delays: int) -> Callable[[Prompt, Request], Reply]:
    """Steps that mostly stay open, with few texts, so that there are twins; whole turns as the rig gives them."""

    def reply(prompt: Prompt, request: Request) -> Reply:
        number, node = number_of(prompt), node_of(request)
        turns = dice("turns", delays, number, node) % 6
        if request.stop and dice("open", number, node) % 4:
            return Reply(f"line {dice('line', number, node) % 3}\nand so on", turns=turns)
        return Reply(answers(number, node), turns=turns)

    return reply


@dataclass
class TreeSetting(Setting):
    """With a scorer, and an engine that answers each node in its own way."""

    scorer: Dice | None = None
    """That of the last run."""

    def tools(self, delays: int) -> tuple[ScriptedEngine, Tools]:
        _, shared = super().tools(delays)
        engine = ScriptedEngine(script(delays), max_running=self.places)
        self.scorer = Dice(delays)
        return engine, replace(shared, engine=engine, scorer=self.scorer)


LINE = Step(("\n",))


def searches(kind: str, how: Valuation, stop_at: int | None) -> Callable[[Problem], Search]:
    match kind:
        case "beam":
            return lambda _: beam(LINE, how, 2, 3, 4, stop_at)
        case "dvts":
            return lambda _: dvts(LINE, how, 2, 2, 4, stop_at)
    return lambda _: mcts(LINE, how, Puct(), 30, 4, 4, stop_at)


settings = st.builds(
    TreeSetting,
    number=st.integers(0, 999),
    search=st.builds(
        searches,
        st.sampled_from(["beam", "dvts", "mcts"]),
        st.builds(Valuation, st.sampled_from(["last", "mean"]), st.sampled_from([0, 2])),
        st.none() | st.integers(1, 3),
    ),
    places=st.integers(1, 8),
)
delays = st.integers(0, 2**16)


def same(one: Tree, other: Tree) -> bool:
    return [timeless(node) for node in one.nodes] == [timeless(node) for node in other.nodes] and one.stop == other.stop


@given(settings, delays)
def test_the_same_answers_at_the_same_turns_give_the_same_tree(setting: TreeSetting, delay: int) -> None:
    first, asked = asyncio.run(setting.run(delay))
    second, again = asyncio.run(setting.run(delay))
    check_invariants(first)
    assert same(first, second)
    assert asked == again
    assert len(asked) == len(set(asked)), "each is asked for once"


@given(settings, st.lists(st.tuples(delays, st.integers(0, 150)), min_size=1, max_size=3), delays)
def test_a_resume_from_anywhere_pays_for_nothing_twice(
    setting: TreeSetting, interruptions: list[tuple[int, int]], last: int
) -> None:
    """Interrupted once or several times, at any event-loop turn, journaled each time."""
    recorded: tuple[Node, ...] = ()
    for delay, after in interruptions:
        snapshot = asyncio.run(setting.interrupted(delay, after, recorded))
        check_invariants(snapshot)
        before, recorded = recorded, journaled(snapshot).nodes
        assert {node.id for node in before} <= {node.id for node in recorded}
    tree, asked = asyncio.run(setting.run(last, recorded))
    check_invariants(tree)
    have = {node.id: node for node in recorded}
    assert not have.keys() & set(asked), "what was generated is not generated again"
    kept = {node.id: node for node in tree.nodes}
    assert all((kept[id].text, kept[id].parent) == (node.text, node.parent) for id, node in have.items())
    assert setting.scorer is not None
    scored = {id for id, node in have.items() if node.scoring is not None}
    assert not scored & set(setting.scorer.asked), "nor is it scored again, whatever came of it"
