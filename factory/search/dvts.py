"""Diverse verifier tree search: subtrees side by side, each of them greedy.

The `width` subtrees begin with `branch` steps from the root each; then each goes on from its own best prefix with
`branch` continuations, and never learns of the others, so that one bad guess of the scorer cannot draw the whole search
the same way. Each subtree is a beam of width 1 (see `factory.search.beam` for its rules) and waits for its own
continuations only. Two subtrees may hold the same text.
"""

from __future__ import annotations

from factory.search.base import Search
from factory.search.beam import Beam, Beams
from factory.search.growth import Growth, Step, grow
from factory.search.value import Valuation


def dvts(
    step: Step, valuation: Valuation, width: int = 4, branch: int = 4, max_steps: int = 64, stop_at: int | None = None
) -> Search:
    """`width`: subtrees. `branch`: continuations of the prefix that a subtree keeps. `stop_at`: right leaves, of all
    subtrees together, that end the search; None never stops early. Raises ValueError for values that cannot work."""
    if min(width, branch, max_steps) < 1 or (stop_at is not None and stop_at < 1):
        raise ValueError("width, branch, max_steps and stop_at must be at least 1")
    growth = Growth()
    beams = [Beam(growth, step, valuation, 1, branch, max_steps) for _ in range(width)]
    return grow(Beams(growth, beams), stop_at)
