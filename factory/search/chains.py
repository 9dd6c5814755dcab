"""Independent chains side by side, each of which goes on from its own last node, until k leaves of them are right.

A chain is a generator of its own: it yields what shall come behind its last node, one piece at a time, and is sent the
node that came of it. It is over when it returns, and when a node is TRUNCATED, since nothing can come behind that.

Chains count in the order in which they began, up to the one that holds the k-th right leaf. When that one is known,
later ones are cancelled, and earlier ones always go on to their end: whether a chain counts does not depend on how soon
it ended, so short ones are not favoured.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

from factory.search.base import Ending, Expansion, Grown, Search, Wants
from factory.search.growth import is_right
from factory.types import ROOT, Node, NodeState, StopReason

Piece = Callable[[int, int], Expansion]
"""An expansion that lacks its id and its parent, such as `partial(Expansion, stop=("\\n",))`."""

Chain = Generator[Piece, Node, None]


def chains(n: int, begin: Callable[[], Chain], wave: int | None = None, stop_at: int | None = None) -> Search:
    """At most `n` chains, `wave` of them going on at once; None means all. `stop_at`: right leaves that end the search.

    Without `stop_at` it never ends early. Raises ValueError for numbers that cannot work.
    """
    if n < 1 or (wave is not None and wave < 1) or (stop_at is not None and stop_at < 1):
        raise ValueError("n, wave and stop_at must be at least 1")
    return _side_by_side(_Book(n, wave or n, begin), stop_at)


def _side_by_side(book: _Book, stop_at: int | None) -> Search:
    expand = book.more()
    while book.waiting:
        cut = book.cut(stop_at)
        cancel = tuple(id for id, chain in book.waiting.items() if cut and chain.place > cut)
        came = book.take((yield Wants(tuple(expand), cancel)))
        cut = book.cut(stop_at)
        expand = [piece for chain in came if not (cut and chain.place > cut) for piece in book.further(chain)]
        if cut is None:
            expand += book.more()
    return book.ending(stop_at)


@dataclass(slots=True, eq=False)
class _Chain:
    """One of them, as far as it has come."""

    place: int
    """From 1, in the order in which they began."""
    rest: Chain
    nodes: list[Node] = field(default_factory=list)

    def next(self) -> Piece | None:
        """What it wants behind its last node; None if it is over."""
        if self.nodes and self.nodes[-1].state is NodeState.TRUNCATED:
            return None
        try:
            return self.rest.send(self.nodes[-1]) if self.nodes else next(self.rest)
        except StopIteration:
            return None


class _Book:
    """All of them, and which expansion belongs to which."""

    def __init__(self, n: int, wave: int, begin: Callable[[], Chain]) -> None:
        self.waiting: dict[int, _Chain] = {}
        """By the id of the expansion that is outstanding."""
        self._begun: list[_Chain] = []
        self._n, self._wave, self._begin = n, wave, begin
        self._last_id = 0

    def more(self) -> list[Expansion]:
        """First pieces of as many new chains as the wave has room for."""
        first: list[Expansion] = []
        while len(self._begun) < self._n and len(self.waiting) < self._wave:
            self._begun.append(_Chain(len(self._begun) + 1, self._begin()))
            first += self.further(self._begun[-1])
        return first

    def further(self, chain: _Chain) -> list[Expansion]:
        """The next piece of a chain; nothing if it is over."""
        piece = chain.next()
        if piece is None:
            return []
        self._last_id += 1
        self.waiting[self._last_id] = chain
        return [piece(self._last_id, chain.nodes[-1].id if chain.nodes else ROOT)]

    def take(self, grown: Iterable[Grown]) -> list[_Chain]:
        """Book what came back; the chains that have a new node."""
        came = []
        for one in grown:
            chain = self.waiting.pop(one.expansion.id)
            if one.node is not None:
                chain.nodes.append(one.node)
                came.append(chain)
        return came

    def cut(self, stop_at: int | None) -> int | None:
        """The place of the chain with the k-th right leaf so far; None while there are fewer.

        An earlier chain that still goes on can only move it forward, never back.
        """
        right = [chain.place for chain in self._begun for node in chain.nodes if is_right(node)]
        return right[stop_at - 1] if stop_at is not None and len(right) >= stop_at else None

    def ending(self, stop_at: int | None) -> Ending:
        cut = self.cut(stop_at)
        kept = [node for chain in self._begun[:cut] for node in chain.nodes if node.state is not NodeState.OPEN]
        solved = cut is not None or (stop_at is None and any(map(is_right, kept)))
        return Ending(StopReason.SOLVED if solved else StopReason.EXHAUSTED, frozenset(node.id for node in kept))
