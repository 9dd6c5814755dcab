"""What a tree search knows of its tree while it grows: which nodes are back, what is outstanding, the next id.

Bookkeeping only: it decides nothing. `ask` makes expansions with consecutive ids, `take` books what came back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from factory.search.base import Ending, Expansion, Grown
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
                came.append(one.node)
        return came

    def path(self, leaf: int) -> list[Node]:
        """From below the root to a node that is back."""
        path: list[Node] = []
        while leaf != ROOT:
            path.append(self.nodes[leaf])
            leaf = path[-1].parent
        return path[::-1]

    def right(self) -> int:
        """Right leaves so far."""
        return sum(map(is_right, self.nodes.values()))

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


def is_right(node: Node | None) -> bool:
    """Whether a node is a finished attempt whose answer passed."""
    return node is not None and node.state is NodeState.FINISHED and node.outcome is Outcome.PASS
