"""The figures that strategies are compared by, against slow and plain ways to find them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.search.base import Expansion
from factory.types import Cost, Node, NodeState, Problem, StopReason, Tree
from tests.bench._searching import (
    Shuffled,
    Solver,
    Spent,
    against,
    at_equal_tokens,
    chance_in,
    cost_of,
    load,
    save,
    sharable,
    spent,
)
from tests.handmade import RIGHT, WRONG, node
from tests.rig import POLICY, problem

Leaves = tuple[tuple[int, bool], ...]


def made(leaves: Leaves, tokens: int | None = None, name: str = "p") -> Spent:
    solved, first = any(right for _, right in leaves), leaves[0][1]
    total = sum(tokens for tokens, _ in leaves) if tokens is None else tokens
    return Spent(name, solved, first, leaves, len(leaves), total, 0, 1, 0, 0, 0, 0, 0.0)


def one_by_one(leaves: Leaves, n: int, stopping: bool) -> tuple[float, float]:
    """Tokens and coverage of at most `n` attempts, on average over every order."""
    tokens, solved = [], []
    for order in permutations(leaves):
        tried = order[:n]
        if stopping:
            tried = tried[: next((place + 1 for place, (_, right) in enumerate(tried) if right), n)]
        tokens.append(sum(cost for cost, _ in tried))
        solved.append(any(right for _, right in tried))
    return fmean(tokens), fmean(solved)


some_leaves = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=5).map(tuple)


@given(some_leaves, st.integers(0, 5), st.booleans())
def test_what_so_many_independent_attempts_cost_and_solve(leaves: Leaves, n: int, stopping: bool) -> None:
    n = min(n, len(leaves))
    tokens, solved = one_by_one(leaves, n, stopping)
    assert cost_of(made(leaves), n, stopping) == pytest.approx(tokens)
    assert chance_in(made(leaves), n) == pytest.approx(solved)


def test_equal_tokens_lie_between_two_whole_numbers_of_attempts() -> None:
    """Two problems of four attempts at ten tokens, one right in each: 25 tokens are two attempts and a half."""
    independent = [made(((10, True), (10, False), (10, False), (10, False)), name=name) for name in "ab"]
    a = [made(((1, True),), 20, "a"), made(((1, False),), 30, "b")]
    found = at_equal_tokens(a, independent, stopping=False)
    assert (found["attempts"], found["independent"]) == (2.5, 0.625)
    assert found["coverage"][0] == pytest.approx(0.5 - 0.625)


def test_more_tokens_than_all_attempts_cost_are_refused() -> None:
    with pytest.raises(ValueError, match="50 tokens a problem, and 2 attempts cost 20"):
        at_equal_tokens([made(((1, True),), 50)], [made(((10, True), (10, False)))], stopping=False)


def test_a_pair_needs_the_same_problems() -> None:
    with pytest.raises(ValueError, match="same problems"):
        against([made(((1, True),), name="a")], [made(((1, True),), name="b")])


def piece(id: int, parent: int, tokens: int, state: NodeState = NodeState.OPEN, text: str = WRONG) -> Node:
    """Of `tokens` ids of its own."""
    return replace(
        node(Expansion(id, parent), text, state),
        token_ids=tuple(range(1000 * id, 1000 * id + tokens)),
        generated_tokens=tokens,
    )


def tree(*nodes: Node, prompt: int = 10) -> Tree:
    """With each request's prompt counted: the problem's own tokens and those of the path."""
    found = Tree(problem(1), POLICY, "hand", nodes, StopReason.EXHAUSTED, None, 1, Cost())
    lengths = {0: prompt}
    for one in nodes:
        lengths[one.id] = lengths[one.parent] + len(one.token_ids or ())
    counted = tuple(replace(one, prompt_tokens=lengths[one.parent]) for one in nodes)
    return replace(found, nodes=counted)


def test_whole_blocks_that_were_there_before_can_be_shared() -> None:
    """A prompt of 10, a step of 10, blocks of 4: the second step shares 8 of its prompt, what follows on the first 20
    tokens 16, since the last token is always computed."""
    grown = tree(piece(1, 0, 10), piece(2, 0, 3), piece(3, 1, 5), piece(4, 1, 5))
    assert sharable(grown, 4) == 0 + 8 + 16 + 16
    assert sharable(tree(piece(1, 0, 10), prompt=100), 4) == 0
    assert sharable(grown, 64) == 0


def test_an_injected_text_is_read_by_who_comes_after() -> None:
    """It makes no request, so nothing of it is in the cache before the first that continues it."""
    cue = piece(2, 1, 6)
    grown = tree(piece(1, 0, 10), cue, piece(3, 2, 1), piece(4, 2, 1))
    grown = replace(grown, nodes=tuple(replace(one, prompt_tokens=0) if one.id == 2 else one for one in grown.nodes))
    assert sharable(grown, 4) == 20 + 24


def test_the_figures_of_a_tree() -> None:
    grown = tree(piece(1, 0, 5), piece(2, 1, 7, NodeState.FINISHED, WRONG), piece(3, 1, 9, NodeState.FINISHED, RIGHT))
    found = spent(grown)
    assert (found.solved, found.first, found.leaves) == (True, False, ((12, False), (14, True)))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    found = [made(((3, True), (4, False)))]
    save(tmp_path / "figures" / "x.json", {"x": found}, split="tune")
    assert load(tmp_path / "figures" / "x.json") == {"x": found}


# --- scorers


def countdown(text: str) -> tuple[Problem, list[Node]]:
    numbers = {"numbers": [3, 7, 12, 25], "target": 46}
    return replace(problem(1), metadata=numbers), [node(Expansion(1, 0), text, NodeState.OPEN)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>\n", 1 / 4),
        ("<think>\ntry 25 - 12 = 13 left 3 7 13\n", 1 / 3),
        ("<think>\ntry 25 - 12 = 12 left 3 7 12\n", 0.0),  # a fault
        ("<think>\ntry 3 + 7 = 10 left 10 12 25\n", 0.0),  # out of reach
        ("<think>\ntry 25 - 12 = 13 left 3 7 13\ndead\n</think>\n", 0.0),  # gives up
        ("<think>\ntry 7 - 3 = 4 left 4 12 25\ndead\nback 3 7 12 25\n", 1 / 4),
    ],
)
def test_the_solver_knows_what_is_within_reach(text: str, value: float) -> None:
    assert asyncio.run(Solver().score(*countdown(text))).value == pytest.approx(value)


def test_a_shuffled_scorer_has_the_same_scores_at_other_nodes() -> None:
    texts = ["<think>\n", "nonsense\n"] * 40

    async def scores(seed: int) -> list[float | None]:
        twin = Shuffled(Solver(), seed)
        return [(await twin.score(*countdown(text))).value for text in texts]

    one, again, other = (asyncio.run(scores(seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert set(one) == {0.25, 0.0}
    assert 10 < sum(a == b for a, b in zip(one[::2], one[1::2], strict=True)) < 30, "no node has its own"
