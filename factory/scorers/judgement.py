"""The model's own judgement: how probable it finds a yes behind a prefix and a cue, against a no.

The cue is put behind the prefix for the question alone; nothing of it is kept. The value is P(yes) / (P(yes) + P(no)),
of the model's own probabilities before temperature (as in Kadavath et al. 2022, "Language Models (Mostly) Know What
They Know", section 3). It is a ranking, not a calibrated chance: most models lean to one of the two.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from factory.errors import EngineDead, EngineError
from factory.scorers.base import Score
from factory.types import Node, Problem, Scoring, Weighed

log = logging.getLogger(__name__)

Weigh = Callable[[Problem, Sequence[Node]], Awaitable[Weighed]]
"""Asks the model about the two tokens, yes first, behind a path and the cue. Raises EngineError or EngineDead."""


class JudgementScorer:
    """Asks one token of the model for each prefix."""

    name = "judgement"

    def __init__(self, weigh: Weigh) -> None:
        self._weigh = weigh

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:
        try:
            weighed = await self._weigh(problem, path)
        except EngineDead:
            raise
        except EngineError as error:
            log.warning("no judgement of a prefix of problem %s: %s", problem.id, error)
            return Score(None)
        yes, no = weighed.logprobs
        return Score(share(yes, no), Scoring(weighed.generated_tokens, weighed.prompt_tokens, weighed.cached_tokens))


def share(yes: float, no: float) -> float | None:
    """Of the first of two log-probabilities in both; None where both are impossible."""
    most = max(yes, no)
    if most == -math.inf:
        return None
    return math.exp(yes - most) / (math.exp(yes - most) + math.exp(no - most))
