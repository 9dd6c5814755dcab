"""A process reward model: what a trained model says of an attempt so far.

The model reads the problem and the steps, each followed by what separates steps in its training, and tells of the last
token how likely it holds the attempt to be right (as in Lightman et al. 2023, "Let's Verify Step by Step", section 2,
and Wang et al. 2024, "Math-Shepherd"). It is asked about each prefix once; what steps before it were worth is in their
own nodes, where a search may look at them (`aggregate`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from factory.errors import EngineDead, EngineError
from factory.scorers.base import Score
from factory.types import Node, Problem, Rewarded, Scoring

log = logging.getLogger(__name__)

Reward = Callable[[Problem, Sequence[Node]], Awaitable[Rewarded]]
"""Asks the model about a path. Raises EngineError or EngineDead."""


class RewardScorer:
    """Reads one class of a reward model."""

    name = "reward"

    def __init__(self, reward: Reward, label: int = -1) -> None:
        """`label`: the class that stands for right, counted from the end where it is negative."""
        self._reward = reward
        self._label = label

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:
        try:
            told = await self._reward(problem, path)
        except EngineDead:
            raise
        except EngineError as error:
            log.warning("no reward of a prefix of problem %s: %s", problem.id, error)
            return Score(None)
        return Score(self._share(told), Scoring(0, told.prompt_tokens, told.cached_tokens))

    def _share(self, told: Rewarded) -> float | None:
        try:
            value = told.rewards[self._label]
        except IndexError:
            log.warning("scorer.label: the model has %d classes, and none is %d", len(told.rewards), self._label)
            return None
        if not 0.0 <= value <= 1.0:  # not a number, too
            log.warning("a reward of %g is no share between 0 and 1: the model is no classifier", value)
            return None
        return value
