"""Budget forcing on the scripted engine, where a character is a token: what is put where, and what is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine, written
from factory.rollout import Rollout
from factory.search.base import Expansion, Grown
from factory.search.budget_forcing import Forcing, budget_forcing
from factory.types import ROOT, Node, NodeState, Origin, Sampling, StopReason, Tree
from tests.rig import POLICY, alone, node_of, problem, started, tools
from tests.unit.test_best_of_n import RIGHT, WRONG, Table, attempt

_alone = pytest.fixture(autouse=True)(alone)

END, WAIT, CUE = "</t>", "hm ", "!</t> so "
FORCING = Forcing(min_thinking=10, max_thinking=20, end=END, wait=WAIT, cue=CUE)


def model(turn: Callable[[str], str]) -> Callable[[Prompt, Request], Reply]:
    """A script whose turn goes on by what has been written of it."""
    return lambda prompt, request: Reply(turn(written(prompt)))


async def grown(turn: Callable[[str], str], forcing: Forcing = FORCING, **settings: Any) -> Tree:
    """One attempt of a model."""
    engine = await started(ScriptedEngine(model(turn), max_context=settings.pop("max_context", None)))
    policy = replace(POLICY, sampling=Sampling(max_tokens=settings.pop("max_tokens", 64)))
    shared = tools(engine, lambda _: budget_forcing(1, forcing, **settings), policy=policy)
    return await Rollout(problem(1), shared).run()


def pieces(nodes: Sequence[Node]) -> list[str]:
    """Texts in order; what a rule put there in braces."""
    return [f"{{{node.text}}}" if node.origin is Origin.INJECTED else node.text for node in nodes]


def thinks(length: int, answer: str = "so yes") -> Callable[[str], str]:
    """A model that thinks so many characters, its end of thinking included, or goes on at once, and answers."""
    whole = "x" * (length - len(END)) + END + answer

    def turn(so_far: str) -> str:
        if so_far.endswith(WAIT):
            return "y" * 9 + END + answer
        return answer if END in so_far else whole[len(so_far) :]

    return turn


LONG = replace(FORCING, max_thinking=40)


@pytest.mark.parametrize("length", [10, 11, 19, 20])
async def test_what_lies_within_the_bounds_is_left_alone(length: int) -> None:
    tree = await grown(thinks(length))
    assert pieces(tree.nodes) == ["x" * (length - 4) + END, "so yes"]
    assert [node.state for node in tree.nodes] == [NodeState.OPEN, NodeState.FINISHED]
    assert tree.stop is StopReason.SOLVED


async def test_one_token_too_few_and_the_end_is_left_out() -> None:
    tree = await grown(thinks(9), LONG)
    assert pieces(tree.nodes) == ["x" * 5, "{hm }", "y" * 9 + END, "so yes"]
    assert tree.nodes[0].generated_tokens == 9, "the end was paid for"
    assert tree.nodes[1].generated_tokens == 0
    assert tree.nodes[-1].outcome is not None


async def test_it_waits_as_often_as_it_must() -> None:
    tree = await grown(lambda so_far: "so yes" if so_far.count(END) else END, replace(FORCING, max_thinking=13))
    assert pieces(tree.nodes) == ["", "{hm }", "", "{hm }", END, "so yes"], "3 and 3 and 4"


async def test_what_comes_behind_a_wait_is_cut_at_the_maximum_as_well() -> None:
    tree = await grown(thinks(9))
    assert pieces(tree.nodes) == ["x" * 5, "{hm }", "y" * 9 + END[:3], "{!</t> so }", "so yes"]


@pytest.mark.parametrize("length", [21, 30, 500])
async def test_at_the_maximum_the_cue_comes(length: int) -> None:
    tree = await grown(thinks(length))
    whole = "x" * (length - 4) + END
    assert pieces(tree.nodes) == [whole[:20], "{!</t> so }", "so yes"]
    assert [node.state for node in tree.nodes[:2]] == [NodeState.OPEN, NodeState.OPEN]


LINED = replace(FORCING, boundary="\n", slack=8)


def lines(so_far: str) -> str:
    """Lines of five characters without end."""
    return "so no" if CUE in so_far else ("abcd\n" * 20)[len(so_far) :]


async def test_a_cue_comes_where_a_line_ends() -> None:
    tree = await grown(lines, LINED)
    assert pieces(tree.nodes) == ["abcd\nabcd\nab", "cd\n", "{!</t> so }", "so no"]


async def test_a_limit_at_the_end_of_a_line_needs_no_more_of_it() -> None:
    tree = await grown(lines, replace(LINED, slack=5))
    assert pieces(tree.nodes) == ["abcd\nabcd\nabcd\n", "{!</t> so }", "so no"]


async def test_a_line_that_is_too_long_is_cut_at_the_maximum() -> None:
    tree = await grown(thinks(99), LINED)
    assert pieces(tree.nodes) == ["x" * 12, "x" * 8, "{!</t> so }", "so yes"]


@pytest.mark.parametrize("length", [13, 14, 15, 16, 20])
async def test_an_end_that_a_limit_cuts_in_two_is_an_end(length: int) -> None:
    tree = await grown(thinks(length), LINED)
    whole = "x" * (length - 4) + END
    assert pieces(tree.nodes) == [whole[:12], whole[12:], "so yes"]


@pytest.mark.parametrize("said", ["", "yes", "I say yes"])
async def test_a_turn_that_ends_too_early_waits(said: str) -> None:
    tree = await grown(lambda so_far: "go on" * 2 if so_far.endswith(WAIT) else "" if CUE in so_far else said, LONG)
    assert pieces(tree.nodes)[:3] == [said, "{hm }", "go on" * 2]
    assert pieces(tree.nodes)[3:] == ["{!</t> so }", ""], "and then it ended again, after enough"
    assert tree.nodes[-1].state is NodeState.FINISHED


async def test_a_turn_that_ends_within_the_bounds_is_asked_for_its_answer() -> None:
    tree = await grown(lambda so_far: "yes" if CUE in so_far else "I wonder why")
    assert pieces(tree.nodes) == ["I wonder why", "{!</t> so }", "yes"]
    assert tree.stop is StopReason.SOLVED


async def test_nothing_is_forced_without_a_least_length() -> None:
    tree = await grown(thinks(4), replace(FORCING, min_thinking=0))
    assert pieces(tree.nodes) == [END, "so yes"]


async def test_an_answer_that_the_turns_limit_cuts_is_truncated() -> None:
    tree = await grown(thinks(99, "x" * 50), max_tokens=30)
    assert pieces(tree.nodes) == ["x" * 20, "{!</t> so }", "x" * 10]
    assert (tree.nodes[-1].state, tree.stop) == (NodeState.TRUNCATED, StopReason.EXHAUSTED)
    assert tree.nodes[-1].counted


@pytest.mark.parametrize("room", [5, 12, 20, 25])
async def test_a_context_that_is_full_leaves_no_answer(room: int) -> None:
    prompt = len("\x02user\x03q1\x02assistant\x03")
    tree = await grown(thinks(99), max_context=prompt + room)
    assert tree.nodes[0].text == "x" * min(room, 20)
    assert [node.state for node in tree.leaves()] == [NodeState.TRUNCATED]
    assert tree.nodes[-1].text == ""
    assert tree.stop is StopReason.EXHAUSTED


async def test_an_engine_that_tells_no_ids_cannot_be_counted_on() -> None:
    engine = await started(ScriptedEngine(model(thinks(9)), token_prompts=False))
    with pytest.raises(ValueError, match="token ids"):
        await Rollout(problem(1), tools(engine, lambda _: budget_forcing(1, FORCING))).run()


async def test_each_attempt_goes_on_by_itself() -> None:
    def script(prompt: Prompt, request: Request) -> Reply:
        return Reply(thinks(9 if node_of(request) == 1 else 15)(written(prompt)), turns=node_of(request) == 2)

    engine = await started(ScriptedEngine(script))
    tree = await Rollout(problem(1), tools(engine, lambda _: budget_forcing(3, FORCING))).run()
    assert [(node.id, node.parent) for node in tree.nodes if node.parent in (0, 1, 2, 3)] == [
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 1),
        *((node.id, node.parent) for node in tree.nodes if node.parent in (2, 3)),
    ]
    assert len(list(tree.leaves())) == 3


# --- by hand


def step(id: int, parent: int, text: str, ids: tuple[int, ...] | None = None, **other: Any) -> Node:
    state = other.pop("state", NodeState.OPEN)
    node = replace(attempt(id, WRONG), parent=parent, text=text, verdicts=(), state=state)
    return replace(node, token_ids=tuple(range(len(text))) if ids is None else ids, **other)


def back(table: Table, *nodes: Node) -> None:
    table.send([Grown(table.asked[node.id - 1], node) for node in nodes])


def test_what_it_asks_for() -> None:
    table = Table(budget_forcing(1, FORCING))
    think = partial(Expansion, min_tokens=10, max_tokens=20, stop=(END,), may_end=False)
    assert table.asked == [think(1, ROOT)]
    back(table, step(1, ROOT, "abc"))
    assert table.asked[1:] == [Expansion(2, 1, inject=WAIT)]
    back(table, step(2, 1, WAIT))
    assert table.asked[2:] == [think(3, 2, min_tokens=4, max_tokens=14)]
    back(table, step(3, 2, "abcdefg"))
    assert table.asked[3:] == [Expansion(4, 3, inject=CUE)]
    back(table, step(4, 3, CUE))
    assert table.asked[4:] == [Expansion(5, 4)]
    back(table, replace(attempt(5, RIGHT), parent=4))
    table.ended(StopReason.SOLVED, {5})


def test_a_token_may_run_on_behind_the_end() -> None:
    """Tokens are kept whole, and this one counts as one."""
    table = Table(budget_forcing(1, FORCING))
    back(table, step(1, ROOT, f"so{END}\n\nThe", tuple(range(12))))
    assert table.asked[1:] == [Expansion(2, 1)]


def test_tokens_are_counted_and_not_characters() -> None:
    table = Table(budget_forcing(1, FORCING))
    back(table, step(1, ROOT, "a long text of few tokens", (1, 2, 3)))
    assert table.asked[1].inject == WAIT


def test_the_kth_right_one_ends_it_and_later_ones_do_not_go_on() -> None:
    table = Table(budget_forcing(3, FORCING, stop_at=1))
    assert table.ids == [1, 2, 3]
    back(table, step(2, ROOT, "x" * 11 + END))
    back(table, replace(attempt(4, RIGHT), parent=2))
    assert table.cancelled == {3}
    back(table, step(3, ROOT, "x" * 11 + END))
    assert table.ids == [1, 2, 3, 4], "it came back all the same, and goes nowhere"
    back(table, step(1, ROOT, "x" * 11 + END))
    assert table.ending is None, "an earlier one goes on to its end"
    back(table, replace(attempt(5, WRONG), parent=1))
    table.ended(StopReason.SOLVED, {4, 5})


def test_never_more_than_a_wave_goes_on() -> None:
    table = Table(budget_forcing(5, FORCING, wave=2))
    assert table.ids == [1, 2]
    back(table, step(1, ROOT, "x" * 11 + END))
    assert table.ids == [1, 2, 3]
    assert table.asked[2] == Expansion(3, 1), "the same attempt, and no new one"
    back(table, replace(attempt(3, WRONG), parent=1))
    assert table.asked[3].parent == ROOT


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_thinking": -1},
        {"min_thinking": 21},
        {"max_thinking": 0, "min_thinking": 0},
        {"boundary": "\n"},
        {"boundary": "\n", "slack": 11},
        {"boundary": "\n", "slack": 0},
        {"boundary": "\n", "slack": 20, "min_thinking": 0},
        {"end": ""},
        {"wait": f"go on {END}"},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(FORCING, **wrong)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"wave": 0}, {"stop_at": 0}])
def test_numbers_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        budget_forcing(**({"n": 1, "forcing": FORCING} | wrong))  # type: ignore[arg-type]
