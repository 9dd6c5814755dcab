"""Whether what an attempt has begun can still pass: 1 while its verifiers find no flaw in it, 0 from the first one on.

For verifiers that can read along, such as `countdown`, which replays a chain line by line. It asks no model. A problem
without such a verifier, or one that is in trouble, gives no score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from factory.scorers.base import Score
from factory.types import Attempt, Node, Problem, attempt_of

Flaw = Callable[[Problem, Attempt], str | None]
"""What is wrong with the beginning of an attempt; None for nothing. Raises LookupError where nobody can tell."""


class ChainScorer:
    """Scores by what a rule finds wrong."""

    name = "chain"

    def __init__(self, flaw: Flaw) -> None:
        self._flaw = flaw

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:
        try:
            return Score(0.0 if self._flaw(problem, attempt_of(path)) else 1.0)
        except Exception:  # noqa: BLE001 - whatever it is, a scorer's trouble is no score
            return Score(None)
