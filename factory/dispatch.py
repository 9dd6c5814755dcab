"""Which problem runs where: a pure state machine that reports every problem exactly once.

It owns the source's iterator and the problems in hand; it does no I/O of its own and starts nothing. A problem is
owed until `take` hands it to a worker, in hand until `close` (its row is committed), `lost` (the worker died: owed
again) or `give_up`. What is committed before the start is never handed out.

The death of a worker is not a try of the problems it held. A problem that was present at `suspicion` deaths is run
alone; if the worker dies then too, the problem is to blame and is given up.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from factory.errors import FactoryError
from factory.types import Problem


class DispatchError(FactoryError):
    """An event about a problem that is not in the state it presumes: a bug in the driver."""


@dataclass(frozen=True, slots=True)
class BadItem:
    """Something in the source that is no problem, and ends as a committed error."""

    id: str
    reason: str


class Dispatch:
    """The state of every problem of a run. Memory: one id per closed problem, the text of those in hand only."""

    def __init__(self, items: Iterable[Problem | BadItem], closed: Collection[str], suspicion: int) -> None:
        self._items: Iterator[Problem | BadItem] = iter(items)
        self._closed = {_compact(id) for id in closed}
        self.suspicion = suspicion
        """Deaths of workers at which a problem may be present before it is run alone."""
        self._returned: deque[Problem] = deque()
        self._suspects: deque[Problem] = deque()
        self._held: dict[str, dict[str, Problem]] = {}
        self._alone: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._bad: list[BadItem] = []
        self._dry = False
        self.skipped = 0
        """Problems of the source that were closed before the start."""

    @property
    def in_hand(self) -> int:
        return sum(len(held) for held in self._held.values())

    @property
    def drained(self) -> bool:
        """Nothing is owed, in hand, or waiting to be taken as an error."""
        return self._dry and not (self._returned or self._suspects or self._bad or self.in_hand)

    def offers(self, worker: str) -> bool:
        """Whether a worker with room may be given something now."""
        if worker in self._alone:
            return False
        suspect = bool(self._suspects) and not self._held.get(worker)
        return suspect or bool(self._returned) or not self._dry

    def holds(self, worker: str) -> int:
        """How many problems a worker has in hand."""
        return len(self._held.get(worker, ()))

    def prime(self) -> bool:
        """Whether anything is owed: looks into the source as far as that takes."""
        first = self._next()
        if first is not None:
            self._returned.append(first)
        return first is not None or bool(self._bad)

    def take(self, worker: str, room: int) -> list[Problem]:
        """At most `room` problems for a worker; a suspect goes to a worker that holds nothing, and stays alone."""
        held = self._held.setdefault(worker, {})
        if worker in self._alone:
            return []
        if self._suspects and not held:
            taken = [self._suspects.popleft()]
            self._alone.add(worker)
        else:
            taken = [problem for problem in (self._next() for _ in range(room)) if problem is not None]
        held.update((problem.id, problem) for problem in taken)
        return taken

    def close(self, worker: str, ids: Iterable[str]) -> None:
        """These problems are committed. Raises DispatchError if the worker does not hold them."""
        held = self._held.get(worker, {})
        for id in ids:
            if held.pop(id, None) is None:
                raise DispatchError(f"problem {id} is reported by {worker}, which does not hold it")
            self._closed.add(_compact(id))
            self._deaths.pop(id, None)
        if not held:
            self._alone.discard(worker)

    def release(self, worker: str) -> None:
        """The worker ended in order: what it still holds is owed again, without blame."""
        self._owe_again(self._held.pop(worker, {}).values())
        self._alone.discard(worker)

    def lost(self, worker: str) -> list[Problem]:
        """The worker died: what it held is owed again, or returned here when it alone can be to blame."""
        held = self._held.pop(worker, {})
        alone = worker in self._alone
        self._alone.discard(worker)
        if alone:
            self._closed.update(_compact(id) for id in held)
            return list(held.values())
        self._deaths.update(held.keys())
        self._owe_again(held.values())
        return []

    def bad_items(self) -> list[BadItem]:
        """What the source held that is no problem, since the last call."""
        bad, self._bad = self._bad, []
        return bad

    def _owe_again(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            suspect = self._deaths[problem.id] >= self.suspicion
            (self._suspects if suspect else self._returned).append(problem)

    def _next(self) -> Problem | None:
        if self._returned:
            return self._returned.popleft()
        for item in self._items:
            if _compact(item.id) in self._closed:
                self.skipped += 1
            elif isinstance(item, BadItem):
                self._closed.add(_compact(item.id))
                self._bad.append(item)
            else:
                return item
        self._dry = True
        return None


def _compact(id: str) -> bytes:
    """Half the memory of the text: ten million ids are planned for."""
    return bytes.fromhex(id)
