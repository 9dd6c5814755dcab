"""From `[scorer]` to a scorer, with what it asks."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from factory.engines.base import Engine, Prompt
from factory.errors import ConfigError
from factory.render import Renderer
from factory.rollout import extended
from factory.scorers.base import Scorer
from factory.scorers.judgement import JudgementScorer, Weigh
from factory.scorers.logprob import LogprobScorer
from factory.search_config import JudgementScorer as JudgementConfig
from factory.search_config import LogprobScorer as LogprobConfig
from factory.types import Message, Node, Problem, Weighed

PROMPTS = 4096
"""Rendered prompts that are remembered: each prefix of a problem is asked about behind the same one."""


def scorer(config: LogprobConfig | JudgementConfig, engine: Engine, renderer: Renderer) -> Scorer:
    """Raises ConfigError, naming the key, for texts that the tokenizer has no token for."""
    match config:
        case LogprobConfig():
            return LogprobScorer()
        case JudgementConfig():
            return JudgementScorer(_weigh(config, engine, renderer))


def _weigh(config: JudgementConfig, engine: Engine, renderer: Renderer) -> Weigh:
    cue = renderer.encode(config.cue) or ()
    choices = (token(renderer, "scorer.yes", config.yes), token(renderer, "scorer.no", config.no))

    @functools.lru_cache(PROMPTS)
    def rendered(messages: tuple[Message, ...]) -> Prompt:
        return renderer.render(messages)

    async def weigh(problem: Problem, path: Sequence[Node]) -> Weighed:
        before = extended(rendered(problem.messages), path)
        asked = Prompt(before.messages, (before.token_ids or ()) + cue, before.prefix + config.cue)
        return await engine.weigh(asked, choices, f"{problem.id}/{path[-1].id}/judgement")

    return weigh


def token(renderer: Renderer, key: str, text: str) -> int:
    """The one token that spells a text. Raises ConfigError, naming the recipe's key, where it takes more."""
    ids = renderer.encode(text)
    if ids is None or len(ids) != 1:
        raise ConfigError(f"{key}: {text!r} must be one token of the model's, and is {len(ids or ())}")
    return ids[0]
