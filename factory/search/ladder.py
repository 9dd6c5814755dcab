"""A ladder: strategies one after the other for one problem, each where those before it left it unsolved.

A rung is a strategy that is made anew, with the number of right answers that are still missing; it stops by its own
rule, and what counts of it is what it says itself: an attempt never counts or fails to count for another rung's sake,
nor for how soon it ended. The ladder only renumbers, since ids of a tree are consecutive over all rungs.

A problem climbs while right answers are missing and rungs are left. It is given up between two rungs, never within one,
if none of its attempts was right and at least `hopeless_after` tokens spoke against it: generated ones, guesses
included, of all nodes but cancelled ones and finished leaves that no verifier decided about, since trouble is no
failure.

What a higher rung asks for can wait for what a lower one does: cheap rungs, which promise the most for a token, come
first over all problems of a worker, so that a run that ends at a cap has spent where most is solved.

Of a ladder's leaves only those of the first rung tell a pass rate, and only where attempts of that rung are independent
(best of n): what is attempted later hangs on how they went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from factory.search.base import Ending, Expansion, Grown, Search, Wants
from factory.search.growth import is_right
from factory.types import ROOT, Node, NodeState, Outcome, StopReason

Rung = Callable[[int | None], Search]
"""Makes a strategy that ends at so many right answers; None for one that never ends early."""


def ladder(rungs: Sequence[Rung], stop_at: int | None = None, hopeless_after: int | None = None) -> Search:
    """Climb until `stop_at` right answers are there, all rungs together; None: until any is, at the end of a rung.

    `hopeless_after`: tokens; None never gives up. Raises ValueError for values that cannot work.
    """
    if not rungs or (stop_at is not None and stop_at < 1) or (hopeless_after is not None and hopeless_after < 1):
        raise ValueError("a ladder needs a rung; stop_at and hopeless_after must be at least 1")
    return _ladder(tuple(rungs), stop_at, hopeless_after)


def _ladder(rungs: tuple[Rung, ...], stop_at: int | None, hopeless_after: int | None) -> Search:
    climb = _Climb()
    for height, rung in enumerate(rungs):
        if climb.is_hopeless(hopeless_after):
            return climb.ended(StopReason.GIVEN_UP)
        yield from climb.up(rung(None if stop_at is None else stop_at - climb.right), height)
        if climb.right >= (stop_at or 1):
            return climb.ended(StopReason.SOLVED)
    return climb.ended(StopReason.EXHAUSTED)


class _Climb:
    """The whole tree, by its own ids: those of a rung are higher by as much as was asked for `below` it."""

    def __init__(self) -> None:
        self.right = 0
        self._counted: set[int] = set()
        self._nodes: dict[int, Node] = {}
        self._outstanding: dict[int, Expansion] = {}
        """As their rung asked for them."""
        self._cancelled: set[int] = set()
        self._last_id = 0

    def ended(self, stop: StopReason) -> Ending:
        return Ending(stop, frozenset(self._counted))

    def is_hopeless(self, after: int | None) -> bool:
        if after is None or self.right:
            return False
        return after <= sum(_against(node) for id, node in self._nodes.items() if id not in self._cancelled)

    def up(self, rung: Search, height: int) -> Search:
        """Drive one rung to its end, and book what counts of it."""
        below = self._last_id
        left = self._outstanding.keys() - self._cancelled  # by a rung that did not wait for all that it asked for
        try:
            wants = next(rung)
            while True:
                grown = yield self._asked(wants, below, height, left)
                left = set()
                mine = self._came(grown, below)
                wants = rung.send(mine) if mine else Wants()
        except StopIteration as stop:
            return self._ended(stop.value, below)

    def _ended(self, ending: Ending, below: int) -> Ending:
        counted = {id + below for id in ending.counted}
        self._counted |= counted
        self.right += sum(is_right(self._nodes[id]) for id in counted)
        return ending

    def _asked(self, wants: Wants, below: int, height: int, left: AbstractSet[int]) -> Wants:
        cancel = left | {id + below for id in wants.cancel}
        self._cancelled |= cancel
        self._last_id += len(wants.expand)
        self._outstanding |= {one.id + below: one for one in wants.expand}
        expand = (
            replace(one, id=one.id + below, parent=_moved(one.parent, below), priority=one.priority + height)
            for one in wants.expand
        )
        return Wants(tuple(expand), tuple(sorted(cancel)))

    def _came(self, grown: tuple[Grown, ...], below: int) -> tuple[Grown, ...]:
        """Book what came back, and give what the present rung asked for as the rung knows it."""
        mine = []
        for one in grown:
            asked, node = self._outstanding.pop(one.expansion.id), one.node
            if node is not None:
                self._nodes[node.id] = node
                node = replace(node, id=asked.id, parent=asked.parent)
            if one.expansion.id > below:
                mine.append(Grown(asked, node))
        return tuple(mine)


def _moved(parent: int, by: int) -> int:
    return ROOT if parent == ROOT else parent + by


def _against(node: Node) -> int:
    """Tokens that speak against a problem of which nothing is right."""
    if node.state is NodeState.FINISHED and node.outcome in {None, Outcome.UNKNOWN}:
        return 0
    return node.generated_tokens + (0 if node.scoring is None else node.scoring.generated_tokens)
