"""What an unfinished prefix is worth, for a tree search to decide where to spend.

A node's *own* value is either the score that the run's scorer gave it, or the share of right ones among `rollouts`
continuations of it to the end of the turn. These continuations are expansions of the search: they are kept, verified
and counted like any other leaf. Of them, UNKNOWN and cancelled ones are left out, since trouble is neither right nor
wrong; a TRUNCATED one is wrong, since nobody who goes on from there under the same limit gets an answer.

A node's value is its own and those of the nodes on its path in one: the last, the least, the product or the mean. Own
values that are not there, because the scorer was in trouble or no continuation could be decided, are left out: such a
node has its parent's value. Where none is left it is 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from factory.search.base import Expansion, Grown
from factory.search.growth import Growth, Step
from factory.types import Node, NodeState, Outcome

Aggregate = Literal["last", "min", "product", "mean"]

UNKNOWN_VALUE = 0.5
"""Of a node of which nothing is known, and nothing of those before it."""

AGGREGATES: Mapping[Aggregate, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "min": min,
    "product": math.prod,
    "mean": fmean,
}


@dataclass(frozen=True, slots=True)
class Valuation:
    """How the worth of a node is found."""

    aggregate: Aggregate = "last"
    rollouts: int = 0
    """Continuations of each node; 0 leaves it to the run's scorer."""

    def scored(self, step: Step) -> Step:
        """The step, with what the scorer says of it where that is its value."""
        return replace(step, score=not self.rollouts)


class Values:
    """The values of one tree's open nodes, as soon as they are known."""

    def __init__(self, growth: Growth, how: Valuation) -> None:
        self._growth = growth
        self._how = how
        self._own: dict[int, float | None] = {}
        self._valued: dict[int, int] = {}  # continuation that is outstanding: whose value hangs on it
        self._rolled: dict[int, list[Node]] = {}  # node that is not valued yet: its continuations that are back

    def begin(self, node: Node) -> tuple[Expansion, ...]:
        """What must come back before an open node's value is known; nothing where it is."""
        if not self._how.rollouts:
            self._own[node.id] = node.score
            return ()
        asked = self._growth.ask(node.id, count=self._how.rollouts)
        self._valued |= {one.id: node.id for one in asked}
        self._rolled[node.id] = []
        return asked

    def took(self, one: Grown) -> int | None:
        """The node that this piece was asked for by `begin`; None for any other piece."""
        node = self._valued.pop(one.expansion.id, None)
        if node is None:
            return None
        if one.node is not None:
            self._rolled[node].append(one.node)
        if node not in self._valued.values():
            self._own[node] = share_right(self._rolled.pop(node))
        return node

    def is_known(self, id: int) -> bool:
        """Whether all that a node's value takes is back."""
        return id in self._own

    def of(self, id: int) -> float:
        """The value of a node that `is_known`; in [0, 1]."""
        owns = (self._own.get(node.id) for node in self._growth.path(id))
        known = [own for own in owns if own is not None]
        return AGGREGATES[self._how.aggregate](known) if known else UNKNOWN_VALUE


def share_right(leaves: Sequence[Node]) -> float | None:
    """Of the leaves that can be decided; None if none can."""
    values = [value for leaf in leaves if (value := leaf_value(leaf)) is not None]
    return fmean(values) if values else None


def leaf_value(leaf: Node) -> float | None:
    """1 for a right leaf, 0 for a wrong or truncated one, None for one that nobody could decide."""
    if leaf.state is NodeState.TRUNCATED:
        return 0.0
    return {Outcome.PASS: 1.0, Outcome.FAIL: 0.0}.get(leaf.outcome or Outcome.UNKNOWN)
