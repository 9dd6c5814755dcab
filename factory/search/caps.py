"""What one problem may cost: a wrapper around any search.

At a cap nothing more is begun. What is in flight then finishes and counts as the search has it, so whether an attempt
counts does not hang on its own length, and a cap is overrun by no more than that. What the search asks for from then on
comes back to it as cancelled, until it ends by its own rule: capped, unless it is solved all the same.

Tokens and engine-seconds stand on the nodes, so a replay is capped where the search was. Wall time hangs on a clock,
which begins anew when a tree is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from factory.search.base import Ending, Grown, Search, Wants
from factory.types import StopReason


@dataclass(frozen=True, slots=True)
class Caps:
    """None is no cap."""

    tokens: int | None = None
    """Generated ones, those of guesses included."""
    engine_seconds: float | None = None
    seconds: float | None = None
    """Of wall time since the search began."""


def capped(search: Search, caps: Caps, clock: Callable[[], float]) -> Search:
    """The search, until a cap is reached; `clock` tells seconds."""
    spent = _Spent(caps, clock)
    refused = False
    try:
        wants = next(search)
        while True:
            cancel = wants.cancel
            while wants.expand and spent.is_at_a_cap():
                refused = True
                wants = search.send(tuple(Grown(one, None) for one in wants.expand))
                cancel += wants.cancel
            grown = yield Wants(wants.expand, cancel)
            spent.add(grown)
            wants = search.send(grown)
    except StopIteration as stop:
        ending: Ending = stop.value
        solved = ending.stop is StopReason.SOLVED
        return replace(ending, stop=StopReason.CAPPED) if refused and not solved else ending


class _Spent:
    def __init__(self, caps: Caps, clock: Callable[[], float]) -> None:
        self._caps = caps
        self._clock = clock
        self._start = clock()
        self._tokens = 0
        self._engine_seconds = 0.0

    def add(self, grown: Iterable[Grown]) -> None:
        for node in (one.node for one in grown):
            if node is not None:
                self._tokens += node.generated_tokens + (0 if node.scoring is None else node.scoring.generated_tokens)
                self._engine_seconds += node.engine_seconds

    def is_at_a_cap(self) -> bool:
        caps = self._caps
        pairs = (
            (self._tokens, caps.tokens),
            (self._engine_seconds, caps.engine_seconds),
            (self._clock() - self._start, caps.seconds),
        )
        return any(cap is not None and spent >= cap for spent, cap in pairs)
