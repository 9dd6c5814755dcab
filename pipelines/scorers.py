"""From `[scorer]` to a scorer, with what it asks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from factory.engines.base import Engine, Prompt
from factory.errors import ConfigError
from factory.render import Renderer
from factory.rollout import extended
from factory.scorers.base import Scorer
from factory.scorers.judgement import JudgementScorer
from factory.scorers.reward import RewardScorer
from factory.search_config import JudgementScorer as JudgementConfig
from factory.search_config import RewardScorer as RewardConfig
from factory.types import Message, Node, Problem, Rewarded, Weighed

PROMPTS = 4096
"""Rendered prompts that are remembered: each prefix of a problem is asked about behind the same one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The model that a scorer asks."""

    engine: Engine
    renderer: Renderer
    is_teacher: bool
    """Whether it made what it is asked about, and goes on from its own tokens; else it reads the text as its own
    tokenizer spells it."""


def scorer(config: JudgementConfig | RewardConfig, asked: Asked) -> Scorer:
    """Raises ConfigError, naming the key, for texts that the tokenizer has no token for."""
    match config:
        case JudgementConfig():
            return _judgement(config, asked)
        case RewardConfig():
            return _reward(config, asked)


def _judgement(config: JudgementConfig, asked: Asked) -> Scorer:
    prompt = _prompts(asked, config.separator, config.cue)
    choices = (token(asked.renderer, "scorer.yes", config.yes), token(asked.renderer, "scorer.no", config.no))

    async def weigh(problem: Problem, path: Sequence[Node]) -> Weighed:
        return await asked.engine.weigh(prompt(problem, path), choices, _key(problem, path, "judgement"))

    return JudgementScorer(weigh)


def _reward(config: RewardConfig, asked: Asked) -> Scorer:
    prompt = _prompts(asked, config.separator, config.separator)

    async def reward(problem: Problem, path: Sequence[Node]) -> Rewarded:
        return await asked.engine.reward(prompt(problem, path), _key(problem, path, "reward"))

    return RewardScorer(reward, config.label)


def _key(problem: Problem, path: Sequence[Node], what: str) -> str:
    return f"{problem.id}/{path[-1].id}/{what}"


def _prompts(asked: Asked, separator: str, cue: str) -> Callable[[Problem, Sequence[Node]], Prompt]:
    """What makes the prompt of a question about a path: the path, and the cue behind it."""
    renderer = asked.renderer

    @functools.lru_cache(PROMPTS)
    def rendered(messages: tuple[Message, ...]) -> Prompt:
        return renderer.render(messages)

    def prompt(problem: Problem, path: Sequence[Node]) -> Prompt:
        before = rendered(problem.messages)
        if asked.is_teacher:
            return _followed(extended(before, path), renderer, cue)
        return _followed(before, renderer, separator.join(node.text for node in path) + cue)

    return prompt


def _followed(before: Prompt, renderer: Renderer, text: str) -> Prompt:
    ids = (before.token_ids or ()) + (renderer.encode(text) or ())
    return Prompt(before.messages, ids, before.prefix + text)


def token(renderer: Renderer, key: str, text: str) -> int:
    """The one token that spells a text. Raises ConfigError, naming the recipe's key, where it takes more."""
    ids = renderer.encode(text)
    if ids is None or len(ids) != 1:
        raise ConfigError(f"{key}: {text!r} must be one token of the model's, and is {len(ids or ())}")
    return ids[0]
