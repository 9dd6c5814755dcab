"""Best of n whose attempts are left as soon as they promise too little, and fresh ones begun in their place.

An attempt grows step by step. It is left, and nothing of it is a leaf, where the run's scorer gives a step less than
`keep`, or where `backtrack` came up in it for the `max_backtracks`-th time; a step without a score goes on. What is
saved is what it would have cost to its end, and what may be lost is a right answer at that end, so that more attempts
are needed for the same coverage: it pays where a token more of such an attempt solves less than one of a fresh attempt.

Attempts count in the order in which they began, up to the k-th right one (see `chains`). They tell no pass rate: those
that were left are not among the leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from factory.search.base import Expansion, Search
from factory.search.chains import Chain, chains
from factory.search.growth import Step
from factory.types import NodeState


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an attempt is followed."""

    keep: float = 0.5
    """A step that is scored lower is the last."""
    backtrack: str | None = None
    """What an attempt says when it turns back; None where nothing does."""
    max_backtracks: int = 1


def early_rejection(
    n: int, step: Step, patience: Patience, *, wave: int | None = None, stop_at: int | None = None
) -> Search:
    """At most `n` attempts, `wave` of them at once, until `stop_at` are right. Raises ValueError for values that cannot
    work."""
    if patience.max_backtracks < 1 or patience.backtrack == "":
        raise ValueError("max_backtracks must be at least 1, and backtrack a text")
    return chains(n, partial(_attempt, step, patience), wave, stop_at)


def _attempt(step: Step, patience: Patience) -> Chain:
    text = ""
    while True:
        node = yield partial(Expansion, max_tokens=step.tokens, stop=step.stop, score=step.score)
        text += node.text
        if node.state is not NodeState.OPEN or (node.score is not None and node.score < patience.keep):
            return
        if patience.backtrack is not None and text.count(patience.backtrack) >= patience.max_backtracks:
            return
