"""What a tree search knows of its tree while it grows, and the loop that tree searches share.

`Growth` is bookkeeping and decides nothing: which nodes are back, what is outstanding, the next id. `grow` asks a
`Strategy` about one piece after the other, so that what came back together is as if it had come one by one, and ends at
k right leaves: what is outstanding then is cancelled, and what comes back after them does not count.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

from factory.search.base import Ending, Expansion, Grown, Search, Wants
from factory.types import ROOT, Node, NodeState, Outcome, StopReason


@dataclass(frozen=True, slots=True)
class Step:
    """How far one step of a tree search goes."""

    stop: tuple[str, ...] = ()
    """Texts that end it."""
    tokens: int | None = None
    """Tokens that end it; None for no limit."""
    score: bool = False
    """Whether the run's scorer is asked about it."""


class Growth:
    """The nodes of one search so far."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        """That came back, in the order in which they did."""
        self.outstanding: dict[int, Expansion] = {}
        self._last_id = 0
        self._right = 0

    def ask(self, parent: int, step: Step | None = None, count: int = 1) -> tuple[Expansion, ...]:
        """Continuations of a node: one step each, or without a step to the end of the turn."""
        step = step or Step()
        return tuple(
            self._booked(Expansion(self._next_id(), parent, max_tokens=step.tokens, stop=step.stop, score=step.score))
            for _ in range(count)
        )

    def inject(self, parent: int, text: str) -> Expansion:
        """A text of the search's own."""
        return self._booked(Expansion(self._next_id(), parent, inject=text))

    def take(self, grown: Iterable[Grown]) -> list[Node]:
        """Book what came back; the nodes of it."""
        came = []
        for one in grown:
            del self.outstanding[one.expansion.id]
            if one.node is not None:
                self.nodes[one.node.id] = one.node
                self._right += is_right(one.node)
                came.append(one.node)
        return came

    def path(self, leaf: int) -> list[Node]:
        """From below the root to a node that is back."""
        path: list[Node] = []
        while leaf != ROOT:
            path.append(self.nodes[leaf])
            leaf = path[-1].parent
        return path[::-1]

    def text(self, leaf: int) -> str:
        """What has been said up to a node that is back."""
        return "".join(node.text for node in self.path(leaf))

    def drop(self, expansions: Iterable[Expansion]) -> None:
        """Forget expansions that were made and not asked for after all; nothing may be asked for afterwards."""
        for one in expansions:
            del self.outstanding[one.id]

    def right(self) -> int:
        """Right leaves so far."""
        return self._right

    def ending(self, counted: frozenset[int], stop_at: int | None) -> Ending:
        """Solved, if as many counted leaves are right as were asked for."""
        right = sum(is_right(self.nodes[id]) for id in counted)
        return Ending(StopReason.SOLVED if right >= (stop_at or 1) else StopReason.EXHAUSTED, counted)

    def leaves(self) -> frozenset[int]:
        """Ids of the finished and the truncated nodes so far."""
        return frozenset(id for id, node in self.nodes.items() if node.state is not NodeState.OPEN)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _booked(self, expansion: Expansion) -> Expansion:
        self.outstanding[expansion.id] = expansion
        return expansion


class Strategy(Protocol):
    """What decides where a tree grows."""

    growth: Growth

    def start(self) -> Iterable[Expansion]:
        """The first expansions."""
        ...

    def came(self, one: Grown) -> Iterable[Expansion]:
        """What is to follow on a piece that `growth` has just booked. The search ends when nothing is outstanding."""
        ...


def grow(strategy: Strategy, stop_at: int | None) -> Search:
    """Do what a strategy says, until `stop_at` leaves are right, or to its end."""
    growth, expand = strategy.growth, tuple(strategy.start())
    while growth.outstanding:
        grown = yield Wants(expand)
        expand = ()
        for place, one in enumerate(grown):
            growth.take([one])
            if stop_at is not None and growth.right() >= stop_at:
                growth.drop(expand)
                counted = growth.leaves()
                growth.take(grown[place + 1 :])
                yield from _ended(growth)
                return growth.ending(counted, stop_at)
            expand += tuple(strategy.came(one))
    return growth.ending(growth.leaves(), stop_at)


def _ended(growth: Growth) -> Generator[Wants, tuple[Grown, ...], None]:
    """Cancel what is outstanding, and wait for it."""
    cancel = tuple(growth.outstanding)
    while growth.outstanding:
        growth.take((yield Wants(cancel=cancel)))
        cancel = ()


def is_right(node: Node | None) -> bool:
    """Whether a node is a finished attempt whose answer passed."""
    return node is not None and node.state is NodeState.FINISHED and node.outcome is Outcome.PASS
