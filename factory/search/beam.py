"""Beam search: step by step, the best prefixes are kept and continued.

At each step the `width` best open prefixes are kept and each is continued `branch` times; of equal values the earlier
expansion goes first. A prefix whose whole text is there already is left alone: its twin is enough. Finished and
truncated continuations are leaves and take no place. Where fewer than `width` prefixes are there, as at the root, the
places go round again from the best one, so that every step has as many continuations. The last of `max_steps` goes to
the end of the turn: `max_steps = 1` is best of `width * branch`. The search ends when nothing is open, or at `stop_at`
right leaves.

A step waits for all of its continuations, which is what makes it a beam. A prefix could go on early once so few are
outstanding that it is among the best whatever their values are: sound, but possible only for the last `width - 1` of a
step, so that it would save little of one problem's time, and none of the engine's, which works for other problems
meanwhile. Where waiting matters, `dvts` waits for less.

At most `width * branch * max_steps` steps are generated; with values by `rollouts`, each of them but those of the last
step has so many continuations more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle, islice

from factory.search.base import Expansion, Grown, Search
from factory.search.growth import Growth, Step, grow
from factory.search.value import Valuation, Values
from factory.types import ROOT, NodeState


def beam(
    step: Step, valuation: Valuation, width: int = 4, branch: int = 4, max_steps: int = 64, stop_at: int | None = None
) -> Search:
    """`width`: prefixes kept at each step. `branch`: continuations of each. `stop_at`: right leaves that end the
    search; None never stops early. Raises ValueError for values that cannot work."""
    if min(width, branch, max_steps) < 1 or (stop_at is not None and stop_at < 1):
        raise ValueError("width, branch, max_steps and stop_at must be at least 1")
    growth = Growth()
    return grow(Beams(growth, [Beam(growth, step, valuation, width, branch, max_steps)]), stop_at)


class Beam:
    """One beam in a tree that it may share with others."""

    def __init__(
        self, growth: Growth, step: Step, valuation: Valuation, width: int, branch: int, max_steps: int
    ) -> None:
        self._growth = growth
        self._step = valuation.scored(step)
        self._values = Values(growth, valuation)
        self._width = width
        self._branch = branch
        self._steps_left = max_steps
        self._outstanding: set[int] = set()
        self._open: list[int] = []
        """What may be kept, of the present step."""
        self._texts: set[str] = set()

    def start(self) -> tuple[Expansion, ...]:
        return self._continued([ROOT])

    def came(self, one: Grown) -> tuple[Expansion, ...]:
        """What follows on a piece of this beam's."""
        self._outstanding.remove(one.expansion.id)
        if self._values.took(one) is None and one.node is not None and one.node.state is NodeState.OPEN:
            valuing = self._candidate(one.node.id)
            if valuing:
                return valuing
        return () if self._outstanding else self._continued(self._best())

    def _candidate(self, id: int) -> tuple[Expansion, ...]:
        """Consider a prefix, unless it is there already; what it takes to value it."""
        text = self._growth.text(id)
        if text in self._texts:
            return ()
        self._texts.add(text)
        self._open.append(id)
        return self._asked(self._values.begin(self._growth.nodes[id]))

    def _best(self) -> list[int]:
        ranked = sorted(self._open, key=lambda id: (-self._values.of(id), id))
        self._open = []
        return ranked[: self._width]

    def _continued(self, prefixes: Sequence[int]) -> tuple[Expansion, ...]:
        self._steps_left -= 1
        step = self._step if self._steps_left else None
        places = islice(cycle(prefixes), self._width)  # none for no prefixes
        return self._asked(one for id in places for one in self._growth.ask(id, step, self._branch))

    def _asked(self, expansions: Iterable[Expansion]) -> tuple[Expansion, ...]:
        asked = tuple(expansions)
        self._outstanding |= {one.id for one in asked}
        return asked


class Beams:
    """Beams side by side: none waits for another."""

    def __init__(self, growth: Growth, beams: Sequence[Beam]) -> None:
        self.growth = growth
        self._beams = beams
        self._whose: dict[int, Beam] = {}

    def start(self) -> tuple[Expansion, ...]:
        return tuple(one for each in self._beams for one in self._assigned(each, each.start()))

    def came(self, one: Grown) -> tuple[Expansion, ...]:
        whose = self._whose.pop(one.expansion.id)
        return self._assigned(whose, whose.came(one))

    def _assigned(self, beam: Beam, asked: tuple[Expansion, ...]) -> tuple[Expansion, ...]:
        self._whose |= {one.id: beam for one in asked}
        return asked
