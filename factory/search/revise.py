"""Revision: an answer, a criticism as a user's turn, another answer, for a set number of turns.

What is criticised is a finished answer that a verifier found wrong. An answer that no verifier could decide about is
left as it is: to call it wrong would be a guess. So is one that the token limit cut, since nothing can come behind it.
With `always` every finished answer is criticised, as one who has no verifier must, right ones included.

As in best of n, verdicts guide the search, and the criticism tells the model that it was wrong: how often revised
answers are right says nothing about how often the model is right by itself. Every answer of a chain is a leaf, the
criticised ones too. Prompt, answers and criticisms have to fit the engine's context: an answer for which there is no
room left is an empty TRUNCATED node.
"""

from __future__ import annotations

from functools import partial

from factory.search.base import Expansion, Search
from factory.search.chains import Chain, chains
from factory.types import Node, NodeState, Outcome


def revise(
    n: int, turns: int, criticism: str, *, always: bool = False, wave: int | None = None, stop_at: int | None = None
) -> Search:
    """`n` first answers, each criticised at most `turns` times; `wave` of them at once, until `stop_at` are right.

    Raises ValueError for values that cannot work.
    """
    if turns < 1:
        raise ValueError("turns must be at least 1")
    return chains(n, partial(_revised, turns, criticism, always), wave, stop_at)


def _revised(turns: int, criticism: str, always: bool) -> Chain:
    answer = yield Expansion
    for _ in range(turns):
        if not _is_criticised(answer, always):
            return
        yield partial(Expansion, inject=criticism)
        answer = yield Expansion


def _is_criticised(answer: Node, always: bool) -> bool:
    return answer.state is NodeState.FINISHED and (always or answer.outcome is Outcome.FAIL)
