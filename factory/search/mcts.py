"""Monte-Carlo tree search for text: PUCT with progressive widening.

A *place* is the root or an open prefix whose value is known. The search goes down from the root: a place that was
continued fewer than `widening * visits ** widening_power` times, and once in any case, is continued once more; from any
other it goes on to the child with the greatest

    Q + exploration * prior * sqrt(N) / (1 + n)

where Q is the mean of the values that were backed up to the child, and n and N are the visits of the child and of its
parent, with what is outstanding there and below. Children come from sampling, so the model's own preference is in which
of them there are: `prior` is a child's share of the place's samples (of twins only the first is a child), or, by
`logprob`, that share times the geometric mean of its tokens' probabilities, normalised over the children; a child
without log-probabilities counts with probability 1.

Backed up, to every place from the one that was continued to the root: the value of a new open prefix (see
`factory.search.value`), which also is its own first visit; 1 for a right leaf, 0 for a wrong or a truncated one. A leaf
that nobody could decide is no visit, and neither is a twin or a cancelled continuation. What is outstanding changes no
Q: it counts as visits in N and n only, so that up to `parallel` steps spread (Liu et al. 2020, "Watch the Unobserved").
Fewer are outstanding where every place has had its share and waits.

Leaves are no places, so a place may have nothing below it to go on with. It is then continued beyond its share once
nothing is outstanding there: the search never stalls, and ends after `expansions` generations, rollouts included, or at
`stop_at` right leaves. The last of `max_steps` steps on a path goes to the end of the turn. So do the last `parallel`
generations of all (or the last `rollouts`, if those are more: a step could not be valued any more), so that what the
search has found out ends in attempts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from factory.search.base import Expansion, Grown, Search
from factory.search.growth import Growth, Step, grow
from factory.search.value import Valuation, Values, leaf_value
from factory.types import ROOT, Node, NodeState

Prior = Literal["samples", "logprob"]


@dataclass(frozen=True, slots=True)
class Puct:
    """How the search weighs what it knows against what it does not."""

    exploration: float = 0.1
    """More of it spreads the search. An attempt is many steps long, and only little of it gets there."""
    widening: float = 2.0
    widening_power: float = 0.5
    prior: Prior = "samples"


def mcts(
    step: Step,
    valuation: Valuation,
    puct: Puct,
    expansions: int = 256,
    parallel: int = 8,
    max_steps: int = 64,
    stop_at: int | None = None,
) -> Search:
    """`expansions`: generations in all. `parallel`: steps that may be outstanding at once. `stop_at`: right leaves that
    end the search; None never stops early. Raises ValueError for values that cannot work."""
    if min(parallel, max_steps) < 1 or (stop_at is not None and stop_at < 1):
        raise ValueError("parallel, max_steps and stop_at must be at least 1")
    if expansions <= max(parallel, valuation.rollouts):
        raise ValueError("expansions must be more than parallel and rollouts: those go to the end of the turn")
    return grow(Mcts(step, valuation, puct, expansions, parallel, max_steps), stop_at)


@dataclass(eq=False, slots=True)
class Place:
    """What the search knows of a prefix."""

    id: int
    parent: Place | None
    steps_left: int
    weight: float = 1.0
    """Of one sample of it in the prior."""
    samples: int = 1
    """How often its parent's continuations gave its text."""
    visits: int = 0
    total: float = 0.0
    """Of the values that were backed up."""
    pending: int = 0
    """Steps here and below that are outstanding, or not valued yet."""
    asked: int = 0
    """Steps from here so far."""
    children: dict[str, Place] = field(default_factory=dict)
    """By their texts. One without a visit is not valued yet."""

    def up(self) -> Iterator[Place]:
        """From here to the root."""
        place: Place | None = self
        while place is not None:
            yield place
            place = place.parent


class Mcts:
    """The strategy; see the module."""

    def __init__(
        self, step: Step, valuation: Valuation, puct: Puct, expansions: int, parallel: int, max_steps: int
    ) -> None:
        self.growth = Growth()
        self._step = valuation.scored(step)
        self._rollouts = valuation.rollouts
        self._last = max(parallel, valuation.rollouts)
        self._values = Values(self.growth, valuation)
        self._puct = puct
        self._left = expansions
        self._parallel = parallel
        self._root = Place(ROOT, None, max_steps)
        self._places: dict[int, Place] = {}
        """Of each open prefix that is no twin."""
        self._continued: dict[int, Place] = {}
        """Where a step was asked for that is outstanding, or not valued yet."""
        self._reserved: dict[int, int] = {}
        """Generations that are kept for valuing a step that is outstanding."""

    def start(self) -> tuple[Expansion, ...]:
        return self._fill()

    def came(self, one: Grown) -> tuple[Expansion, ...]:
        valued = self._values.took(one)
        asked = self._stepped(one) if valued is None else self._valued(valued)
        return asked + self._fill()

    def _fill(self) -> tuple[Expansion, ...]:
        """As many steps as may be outstanding."""
        asked: tuple[Expansion, ...] = ()
        while self._left and len(self._continued) < self._parallel:
            place = self._select()
            if place is None:
                break
            asked += self._ask(place)
        return asked

    def _select(self) -> Place | None:
        """Where to continue: depth first, the best child first, so that what waits is passed over; None to wait."""
        stack = [self._root]
        while stack:
            place = stack.pop()
            share = self._puct.widening * place.visits**self._puct.widening_power
            children = self._ranked(place)
            if place.asked < max(1, math.floor(share)) or not (children or place.pending):
                return place
            stack += reversed(children)
        return None

    def _ranked(self, place: Place) -> list[Place]:
        """Children to go on with, the best first."""
        children = [child for child in place.children.values() if child.visits]
        whole = sum(child.samples * child.weight for child in children)
        reach = self._puct.exploration * math.sqrt(place.visits + place.pending)

        def score(child: Place) -> float:
            prior = child.samples * child.weight / whole
            return child.total / child.visits + reach * prior / (1 + child.visits + child.pending)

        return sorted(children, key=lambda child: (-score(child), child.id))

    def _ask(self, place: Place) -> tuple[Expansion, ...]:
        to_the_end = place.steps_left == 1 or self._left <= self._last
        (asked,) = self.growth.ask(place.id, None if to_the_end else self._step)
        self._reserved[asked.id] = 0 if to_the_end else self._rollouts
        self._left -= 1 + self._reserved[asked.id]
        place.asked += 1
        for each in place.up():
            each.pending += 1
        self._continued[asked.id] = place
        return (asked,)

    def _stepped(self, one: Grown) -> tuple[Expansion, ...]:
        """A step is back."""
        place, node = self._continued[one.expansion.id], one.node
        reserved = self._reserved.pop(one.expansion.id)
        if node is not None and node.state is NodeState.OPEN:
            if node.text not in place.children:
                return self._opened(place, node)
            place.children[node.text].samples += 1
        elif node is not None and (value := leaf_value(node)) is not None:
            _back_up(place, value)
        self._left += reserved  # there is nothing to value
        self._done(one.expansion.id)
        return ()

    def _opened(self, place: Place, node: Node) -> tuple[Expansion, ...]:
        """A new prefix; what it takes to value it."""
        weight = _weight(node) if self._puct.prior == "logprob" else 1.0
        place.children[node.text] = self._places[node.id] = Place(node.id, place, place.steps_left - 1, weight)
        return self._values.begin(node) or self._valued(node.id)

    def _valued(self, id: int) -> tuple[Expansion, ...]:
        """One piece more is known of a prefix's value; back it up once all is."""
        if self._values.is_known(id):
            _back_up(self._places[id], self._values.of(id))
            self._done(id)
        return ()

    def _done(self, step: int) -> None:
        for each in self._continued.pop(step).up():
            each.pending -= 1


def _back_up(place: Place, value: float) -> None:
    for each in place.up():
        each.visits += 1
        each.total += value


def _weight(node: Node) -> float:
    """The geometric mean of a step's probabilities, never zero; 1 where they are not told."""
    return max(math.exp(fmean(node.logprobs)), 1e-9) if node.logprobs else 1.0
