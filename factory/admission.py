"""Which requests are inside the engine and which wait outside: the controller that keeps it full. A pure state machine.

Two thresholds, both from the number of requests that the engine can run (`places`):

- At most `places` and an eighth more are inside, beside those that are on their way. The eighth waits in the engine's
  own queue, so that a free place is taken at the engine's next step; a request from here would come a step or two
  later. More than that would wait where nothing can be reordered or forgotten. On their way (`away`) are requests that
  count as inside while the engine does not know of them yet, or has answered them: where a request is a step of a few
  tokens, a third of them may be, and would leave their places empty. No more than `places` are taken for such.
- Another problem is wanted while fewer than that are urgent, inside or waiting, whatever the strategies do: a tree
  that asks for one step at a time makes room for others, a tree that suddenly asks for many fills the queue here.

Who waits goes in by priority, then the older tree first: trees are finished rather than begun, so few are open, their
prefixes are still in the engine's cache, and long ones are not left for the end. Requests of a later priority wait
until no problem is left to begin, or `MAX_OPEN` trees for each place are open.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

MAX_OPEN = 8
"""Trees for each place of the engine that may be open at once, all but a few of them waiting."""


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """A request; the order in which they go in is that of the fields."""

    priority: int
    """0 for urgent; what a search can put off has a higher number."""
    tree: int
    """Number of the tree, in the order in which trees were begun."""
    id: int
    """Of the expansion."""


class Admission:
    """Tickets inside and outside. Each is asked for once, admitted once, and leaves once or more often."""

    def __init__(self) -> None:
        self._inside: set[Ticket] = set()
        self._outside: set[Ticket] = set()
        self._queue: list[Ticket] = []
        """A heap of those outside; it may still hold some that have left."""
        self._urgent = 0
        """Of those inside and outside."""

    @property
    def inside(self) -> int:
        return len(self._inside)

    @property
    def outside(self) -> int:
        return len(self._outside)

    def ask(self, ticket: Ticket) -> None:
        """It waits until it is admitted."""
        self._outside.add(ticket)
        self._urgent += ticket.priority == 0
        heapq.heappush(self._queue, ticket)

    def admit(self, places: int, away: int = 0) -> list[Ticket]:
        """Those that go in now."""
        admitted = []
        while self._queue and len(self._inside) < enough(places, away):
            ticket = heapq.heappop(self._queue)
            if ticket in self._outside:
                self._outside.remove(ticket)
                self._inside.add(ticket)
                admitted.append(ticket)
        return admitted

    def leave(self, ticket: Ticket) -> None:
        """It is answered, or not wanted any more."""
        for where in (self._inside, self._outside):
            if ticket in where:
                where.remove(ticket)
                self._urgent -= ticket.priority == 0

    def wants_problem(self, places: int, trees: int, away: int = 0) -> bool:
        """Whether another problem shall be begun, beside so many open trees."""
        return self._urgent < enough(places, away) and trees < MAX_OPEN * places


def enough(places: int, away: int = 0) -> int:
    """How many requests are inside at most, where so many of them are on their way."""
    return places + places // 8 + min(places, away)
