"""Which open problem goes on first, where the engine cannot serve all: the one that promises the most for a token.

A wrapper around any search that gives its expansions a priority (see `factory.admission`): how far the expected right
answers per token of its next attempt have fallen below those of a problem of which nothing is known. They are the mean
of the pass rate's posterior, under a Beta prior, over the mean tokens of an attempt. So problems that have not begun
come first, then those that failed the least, and of those the ones whose attempts are short: under a cap the tokens go
where most is solved, in breadth instead of one problem after the other. Without a cap only the order is another one.

What is wanted, and what counts, is the search's own. It needs waves: attempts that are all asked for at once are asked
for before anything is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from factory.search.base import Ending, Grown, Search, Wants
from factory.search.growth import is_right
from factory.types import Node, NodeState, Outcome

RIGHT, WRONG = 1.0, 4.0
"""The prior, in attempts: one of five is right. Among problems without a right answer it hardly changes the order."""
STEPS = 8
"""Priorities between a yield and half of it."""


@dataclass(slots=True)
class Cost:
    """What attempts cost."""

    leaves: int = 0
    tokens: int = 0

    def mean(self) -> float | None:
        """Tokens of an attempt; None before there was one."""
        return self.tokens / self.leaves if self.leaves and self.tokens else None


def by_yield(search: Search, typical: Cost) -> Search:
    """The search, with priorities. `typical`: shared by the searches of a worker, which count their attempts there."""
    known = _Known(typical)
    try:
        wants = next(search)
        while True:
            later = known.priority()
            expand = tuple(replace(one, priority=one.priority + later) for one in wants.expand)
            grown = yield Wants(expand, wants.cancel)
            known.add(grown)
            wants = search.send(grown)
    except StopIteration as stop:
        ending: Ending = stop.value
        return ending


class _Known:
    """Of one problem so far. UNKNOWN attempts cost, and say nothing of the rate; cut ones are not right."""

    def __init__(self, typical: Cost) -> None:
        self._typical = typical
        self._own = Cost()
        self._right = self._decided = 0

    def add(self, grown: Iterable[Grown]) -> None:
        for node in (one.node for one in grown):
            if node is not None:
                self._count(node)

    def _count(self, node: Node) -> None:
        leaf = node.state is not NodeState.OPEN
        for cost in (self._own, self._typical):
            cost.tokens += node.generated_tokens
            cost.leaves += leaf
        self._right += is_right(node)
        self._decided += node.state is NodeState.TRUNCATED or node.outcome in {Outcome.PASS, Outcome.FAIL}

    def priority(self) -> int:
        rate = (RIGHT + self._right) / (RIGHT + WRONG + self._decided)
        return max(0, round(STEPS * (math.log2(RIGHT / (RIGHT + WRONG) / rate) + math.log2(self._relative_cost()))))

    def _relative_cost(self) -> float:
        """Of an attempt at this problem, over that of any; as if one of typical cost had been made already."""
        typical = self._typical.mean()
        if typical is None:
            return 1.0
        return (typical + self._own.tokens) / (1 + self._own.leaves) / typical
