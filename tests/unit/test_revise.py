"""Revision: what is criticised, what the model is shown, and what a criticism is taken for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine
from factory.render import MessageRenderer
from factory.rollout import Rollout
from factory.search.base import Expansion, Grown
from factory.search.revise import revise
from factory.types import ROOT, Message, Node, NodeState, Origin, Sampling, StopReason, Tree
from tests.rig import POLICY, alone, judge, node_of, problem, started, tools
from tests.unit.test_best_of_n import CUT, GONE, RIGHT, UNKNOWN, WRONG, Table, attempt

_alone = pytest.fixture(autouse=True)(alone)

AGAIN = "that is wrong"


def turn(id: int, parent: int) -> Node:
    """A criticism, as a rollout makes it."""
    node = replace(attempt(id, CUT), parent=parent, text=AGAIN, state=NodeState.OPEN)
    return replace(node, origin=Origin.INJECTED, role="user")


def back(table: Table, *come: tuple[int, str]) -> None:
    table.send(
        [
            Grown(table.asked[id - 1], None if what == GONE else replace(attempt(id, what), parent=_parent(table, id)))
            for id, what in come
        ]
    )


def _parent(table: Table, id: int) -> int:
    return table.asked[id - 1].parent


def criticised(table: Table, id: int) -> None:
    assert table.asked[id - 1].inject == AGAIN
    table.send([Grown(table.asked[id - 1], turn(id, _parent(table, id)))])


def test_a_wrong_answer_is_criticised_and_asked_for_again() -> None:
    table = Table(revise(1, 2, AGAIN))
    assert table.asked == [Expansion(1, ROOT)]
    back(table, (1, WRONG))
    criticised(table, 2)
    assert table.asked[1:] == [Expansion(2, 1, inject=AGAIN), Expansion(3, 2)]
    back(table, (3, WRONG))
    criticised(table, 4)
    back(table, (5, RIGHT))
    table.ended(StopReason.SOLVED, {1, 3, 5})


def test_no_more_turns_than_it_was_told() -> None:
    table = Table(revise(1, 1, AGAIN))
    back(table, (1, WRONG))
    criticised(table, 2)
    back(table, (3, WRONG))
    table.ended(StopReason.EXHAUSTED, {1, 3})


@pytest.mark.parametrize("what", [RIGHT, UNKNOWN, CUT])
def test_only_what_a_verifier_found_wrong_is_criticised(what: str) -> None:
    table = Table(revise(1, 3, AGAIN))
    back(table, (1, what))
    table.ended(StopReason.SOLVED if what == RIGHT else StopReason.EXHAUSTED, {1})


@pytest.mark.parametrize("what", [RIGHT, UNKNOWN, WRONG])
def test_every_finished_answer_is_criticised_if_it_is_told_so(what: str) -> None:
    table = Table(revise(1, 1, AGAIN, always=True))
    back(table, (1, what))
    criticised(table, 2)
    back(table, (3, WRONG))
    table.ended(StopReason.SOLVED if what == RIGHT else StopReason.EXHAUSTED, {1, 3})


def test_nothing_comes_behind_an_answer_that_was_cut() -> None:
    table = Table(revise(1, 1, AGAIN, always=True))
    back(table, (1, CUT))
    table.ended(StopReason.EXHAUSTED, {1})


def test_answers_count_in_the_order_of_their_first_ones() -> None:
    """2 is repaired while 1 is on its way: 3 is not needed any more, and 1 still decides what counts."""
    table = Table(revise(3, 1, AGAIN, stop_at=1))
    back(table, (2, WRONG))
    criticised(table, 4)
    back(table, (5, RIGHT))
    assert table.cancelled == {3}
    back(table, (3, WRONG))
    assert table.ids == [1, 2, 3, 4, 5], "it is not revised"
    back(table, (1, WRONG))
    criticised(table, 6)
    back(table, (7, WRONG))
    table.ended(StopReason.SOLVED, {1, 2, 5, 7})


def test_a_cancelled_answer_ends_its_chain() -> None:
    table = Table(revise(2, 1, AGAIN, stop_at=1))
    back(table, (1, RIGHT))
    back(table, (2, GONE))
    table.ended(StopReason.SOLVED, {1})


@pytest.mark.parametrize("wrong", [{"n": 0}, {"turns": 0}, {"wave": 0}, {"stop_at": 0}])
def test_numbers_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        revise(**({"n": 1, "turns": 1, "criticism": AGAIN} | wrong))  # type: ignore[arg-type]


# --- in a rollout


async def revised(*answers: str, **settings: int | None) -> tuple[Tree, ScriptedEngine]:
    said = dict(zip((1, 3, 5, 7), answers, strict=False))
    engine = await started(
        ScriptedEngine(lambda _, request: Reply(said[node_of(request)]), max_context=settings.pop("max_context", None))
    )
    policy = replace(POLICY, sampling=Sampling(max_tokens=settings.pop("max_tokens", None) or 64))
    shared = tools(engine, lambda _: revise(1, 3, AGAIN), policy=policy)
    return await Rollout(problem(1), shared).run(), engine


async def test_the_model_is_shown_what_it_said_and_the_criticism_as_a_turn() -> None:
    tree, engine = await revised("it is no", "then yes")
    assert [(node.role, node.origin, node.state) for node in tree.nodes] == [
        ("assistant", Origin.SAMPLED, NodeState.FINISHED),
        ("user", Origin.INJECTED, NodeState.OPEN),
        ("assistant", Origin.SAMPLED, NodeState.FINISHED),
    ]
    _, (prompt, _) = engine.requests
    shown = "".join(map(chr, prompt.token_ids or ()))
    assert shown == f"\x02user\x03q1\x02assistant\x03it is no\x02user\x03{AGAIN}\x02assistant\x03"
    assert prompt.messages[1:] == (Message("assistant", "it is no"), Message("user", AGAIN))
    assert prompt.prefix == ""
    assert tree.stop is StopReason.SOLVED


async def test_each_turn_is_judged_by_itself() -> None:
    tree, _ = await revised("it is yes no", "I say no", "now huh")
    assert [[one.extracted for one in node.verdicts] for node in tree.leaves()] == [["no"], ["no"], ["huh"]]
    assert tree.stop is StopReason.EXHAUSTED


async def test_each_turn_has_the_whole_limit() -> None:
    tree, _ = await revised("x" * 50 + " no", "x" * 50 + " yes")
    assert [node.state for node in tree.leaves()] == [NodeState.FINISHED, NodeState.FINISHED]


async def test_a_context_without_room_gives_an_empty_truncated_answer() -> None:
    """The second answer is cut by the context, or not begun; the tree is closed, and no request was refused."""
    prompt = len("\x02user\x03q1\x02assistant\x03") + len("it is no")
    around = len(f"\x02user\x03{AGAIN}\x02assistant\x03")
    for room, text in ((around + 4, "then"), (around, ""), (around - 5, ""), (0, "")):
        tree, engine = await revised("it is no", "then yes", max_context=prompt + max(room, 1))
        assert [node.text for node in tree.nodes] == ["it is no", AGAIN, text]
        assert tree.nodes[-1].state is NodeState.TRUNCATED
        assert len(engine.requests) == (2 if text else 1)


async def test_a_server_that_renders_messages_itself_can_revise() -> None:
    def script(prompt: Prompt, request: Request) -> Reply:
        return Reply("yes" if node_of(request) == 3 else "no")

    engine = await started(ScriptedEngine(script, token_prompts=False))
    shared = replace(tools(engine, lambda _: revise(1, 1, AGAIN), judge=judge), renderer=MessageRenderer())
    tree = await Rollout(problem(1), shared).run()
    _, (prompt, _) = engine.requests
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user"]
    assert tree.stop is StopReason.SOLVED
