"""Whether a recipe's search fits its engine: what cannot work is refused by its key before an engine starts.

`check_capabilities` needs what the engine declares, `check_scorer` and `check_seams` the same of others. `check_texts`,
`check_scorer_texts` and `check_prompt` need the tokenizer: a stop string that it cannot spell never comes, and a rule's
text that it cannot spell would reach the model as something else. All raise ConfigError. Who calls them, and where:
`pipelines.build`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from factory.config import Recipe
from factory.engines.base import Capabilities, Prompt
from factory.errors import ConfigError, SourceError
from factory.render import Renderer
from factory.search_config import (
    BudgetForcingConfig,
    ConsensusConfig,
    EarlyRejectionConfig,
    JudgementScorer,
    LadderConfig,
    OneSearch,
    ReviseConfig,
    RewardScorer,
    StepConfig,
    engine_asked,
)
from pipelines.scorers import token


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a recipe that the model reads or is to write."""

    key: str
    """Its place in the recipe."""
    text: str
    stops: bool = False
    """Whether the model is to write it; else a rule does."""


def texts(recipe: Recipe) -> Iterator[Text]:
    """All that a recipe's search would have the teacher's tokenizer spell."""
    for place, one in _strategies(recipe):
        match one:
            case StepConfig() | EarlyRejectionConfig():
                yield from (Text(f"{place}.step_stop", text, stops=True) for text in one.step_stop)
            case BudgetForcingConfig():
                yield Text(f"{place}.end", one.end, stops=True)
                yield from (Text(f"{place}.boundary", text, stops=True) for text in (one.boundary,) if text)
                yield from (Text(f"{place}.wait", text) for text in (one.wait,) if one.min_thinking)
                yield Text(f"{place}.cue", one.cue)
            case ReviseConfig():
                yield Text(f"{place}.criticism", one.criticism)


def _strategies(recipe: Recipe) -> Iterator[tuple[str, OneSearch | ConsensusConfig]]:
    """Each strategy with its place in the recipe."""
    if isinstance(recipe.search, LadderConfig):
        yield from ((f"search.rungs.{number}", one) for number, one in enumerate(recipe.search.rungs))
    else:
        yield "search", recipe.search


def check_capabilities(recipe: Recipe, capabilities: Capabilities) -> None:
    """Raise for a search that goes on from where a generation ended on an engine that cannot, and for a turn that
    leaves no room for a prompt."""
    for place, one in _strategies(recipe):
        if isinstance(one, StepConfig | EarlyRejectionConfig | BudgetForcingConfig) and not capabilities.token_prompts:
            raise ConfigError(
                f"{place}.kind: {one.kind!r} goes on from what the model has begun, by token ids, and the engine takes "
                "none: use protocol = 'completions' or another engine"
            )
    if capabilities.rewards:
        raise ConfigError("engines.teacher: it is a reward model, which generates nothing")
    _check_room(recipe, capabilities.max_context, 1)


def check_scorer(recipe: Recipe, asked: Capabilities) -> None:
    """Raise for a scorer whose engine, which can do what `asked` says, cannot answer it."""
    name = engine_asked(recipe.scorer)
    if isinstance(recipe.scorer, JudgementScorer) and not asked.weighs:
        raise ConfigError(
            f"scorer.kind: 'judgement' asks how probable a token is, and engine {name!r} does not tell: use protocol = "
            "'completions' of vLLM's server, or an engine in process"
        )
    if isinstance(recipe.scorer, RewardScorer) and not asked.rewards:
        raise ConfigError(
            f"scorer.engine: {name!r} is no reward model: in process that takes args.runner = 'pooling', over HTTP "
            "protocol = 'pooling'"
        )
    _check_room(recipe, asked.max_context, 1, f"scorer.engine {name!r}: ")


def check_seams(name: str, asked: Capabilities) -> None:
    """Raise for an engine that shall test seams, and cannot."""
    if not asked.weighs:
        raise ConfigError(
            f"prune.seams.engine: {name!r} does not tell how probable a text is: use protocol = 'completions' of vLLM's"
            " server, or an engine in process that generates"
        )


def check_prompt(recipe: Recipe, capabilities: Capabilities, prompt: Prompt) -> None:
    """Raise where a prompt and a whole turn do not fit into the context."""
    _check_room(recipe, capabilities.max_context, len(prompt.token_ids or ()))


def _check_room(recipe: Recipe, context: int | None, prompt_tokens: int, whose: str = "") -> None:
    most = recipe.sampling.max_tokens
    if context is not None and prompt_tokens + most > context:
        raise ConfigError(
            f"{whose}sampling.max_tokens: {most} tokens behind a prompt of {prompt_tokens} or more do not fit into a "
            f"context of {context}"
        )


def check_texts(recipe: Recipe, renderer: Renderer) -> None:
    """Raise for the first text that the model's tokenizer cannot spell. An engine's server may keep its tokenizer to
    itself: nothing is said of it then."""
    for one in texts(recipe):
        if not (_could_be_written if one.stops else _is_spelled)(renderer, one.text):
            raise ConfigError(f"{one.key}: the tokenizer cannot spell {one.text!r}{_instead(renderer, one.text)}")
    for place, strategy in _strategies(recipe):
        if isinstance(strategy, BudgetForcingConfig):
            _check_room_for_wait(place, strategy, renderer)
        elif isinstance(strategy, ReviseConfig):
            _check_turn(place, strategy, renderer)


def check_scorer_texts(recipe: Recipe, renderer: Renderer) -> None:
    """The same for what the scorer's model reads, by its own tokenizer."""
    config = recipe.scorer
    for key in ("cue", "yes", "no", "separator"):
        text = getattr(config, key, "")
        if text and not _is_spelled(renderer, text):
            raise ConfigError(f"scorer.{key}: the tokenizer cannot spell {text!r}{_instead(renderer, text)}")
    if isinstance(config, JudgementScorer):
        token(renderer, "scorer.yes", config.yes)
        token(renderer, "scorer.no", config.no)


def _check_room_for_wait(place: str, forcing: BudgetForcingConfig, renderer: Renderer) -> None:
    """The least thinking and a `wait` behind it must fit into the most."""
    ids = renderer.encode(forcing.wait) if forcing.min_thinking else None
    if ids is not None and forcing.min_thinking + len(ids) > forcing.last:
        raise ConfigError(
            f"{place}.min_thinking: {forcing.min_thinking} and the {len(ids)} tokens of {forcing.wait!r} are more than"
            f" {forcing.last}, where thinking is ended"
        )


def _check_turn(place: str, revise: ReviseConfig, renderer: Renderer) -> None:
    """The chat template must be able to go on with a user's turn behind the assistant's."""
    try:
        renderer.turn(revise.criticism)
    except (ConfigError, SourceError) as error:
        raise ConfigError(f"{place}.criticism: {error}") from None


def _could_be_written(renderer: Renderer, text: str) -> bool:
    """A tokenizer of words may have it only with the space that stands before it."""
    return _is_spelled(renderer, text) or _is_spelled(renderer, f" {text}")


def _is_spelled(renderer: Renderer, text: str) -> bool:
    """Whether the ids of a text spell the text. Ids on their own may lack, or gain, the space that they begin with."""
    ids = renderer.encode(text)
    return ids is None or renderer.decode(ids).lstrip(" ") == text.lstrip(" ")


def _instead(renderer: Renderer, text: str) -> str:
    """What would come of it, for whoever wrote it."""
    ids = renderer.encode(text)
    return "" if ids is None else f": it would become {renderer.decode(ids)!r}"
