"""The contract of a scorer: a guess about an unfinished prefix, for a search to decide where to spend.

A score is a number in [0, 1], higher for better, or None where the scorer is in trouble; it never decides what is right
and never becomes data. What a guess cost is told with it, in tokens of whichever model made it. `score` may be awaited
any number of times at once: batching is the engine's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from factory.types import Node, Problem, Scoring


@dataclass(frozen=True, slots=True)
class Score:
    """One guess."""

    value: float | None
    """In [0, 1]; None for no guess."""
    scoring: Scoring | None = None
    """What it cost; None for nothing."""


class Scorer(Protocol):
    """Guesses how likely a prefix is to become a right attempt."""

    name: str

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:
        """About the path from below the root to its last node, which is OPEN. Raises nothing but EngineDead: other
        trouble is a Score of None."""
        ...
