"""How sure the model was of its last step: the mean probability of its tokens, by their geometric mean.

Costs nothing, and says little of whether a step leads anywhere: models are sure of dead ends, too. It is the baseline
that other scorers have to beat. Log-probabilities are those that the engine recorded with the step, which needs
`sampling.logprobs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from factory.scorers.base import Score
from factory.types import Node, Problem


class LogprobScorer:
    """exp of the mean log-probability of the last step's tokens; no guess where the engine told none."""

    name = "logprob"

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:  # noqa: ARG002
        logprobs = path[-1].logprobs
        return Score(math.exp(fmean(logprobs)) if logprobs else None)
