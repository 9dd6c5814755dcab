"""From `[search]` to a strategy: which function a kind stands for, and its parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from factory.search.base import Search
from factory.search.beam import beam
from factory.search.best_of_n import best_of_n
from factory.search.budget_forcing import Forcing, budget_forcing
from factory.search.consensus import consensus
from factory.search.dvts import dvts
from factory.search.early_rejection import Patience, early_rejection
from factory.search.growth import Step
from factory.search.ladder import ladder
from factory.search.mcts import Puct, mcts
from factory.search.revise import revise
from factory.search.value import Valuation
from factory.search_config import (
    BeamConfig,
    BestOfNConfig,
    BudgetForcingConfig,
    ConsensusConfig,
    DvtsConfig,
    EarlyRejectionConfig,
    LadderConfig,
    MctsConfig,
    OneSearch,
    ReviseConfig,
    StepConfig,
)


def maker(config: OneSearch | ConsensusConfig | LadderConfig) -> Callable[[], Search]:
    """Makes a fresh search each time."""
    match config:
        case BestOfNConfig():
            return partial(best_of_n, config.n, config.wave, config.stop_at)
        case EarlyRejectionConfig():
            step = Step(tuple(config.step_stop), config.step_tokens, score=config.keep is not None)
            patience = Patience(config.keep or 0.0, config.backtrack, config.max_backtracks)
            return partial(early_rejection, config.n, step, patience, wave=config.wave, stop_at=config.stop_at)
        case BudgetForcingConfig():
            forcing = Forcing(**config.model_dump(exclude={"kind", "n", "wave", "stop_at"}))
            return partial(budget_forcing, config.n, forcing, wave=config.wave, stop_at=config.stop_at)
        case ReviseConfig():
            revision = partial(revise, config.n, config.turns, config.criticism, always=config.when == "always")
            return partial(revision, wave=config.wave, stop_at=config.stop_at)
        case BeamConfig() | DvtsConfig():
            make = beam if isinstance(config, BeamConfig) else dvts
            return partial(make, *_steps(config), config.width, config.branch, config.max_steps, config.stop_at)
        case MctsConfig():
            puct = Puct(config.exploration, config.widening, config.widening_power, config.prior)
            ends = (config.max_steps, config.stop_at)
            return partial(mcts, *_steps(config), puct, config.expansions, config.parallel, *ends)
        case ConsensusConfig():
            return partial(consensus, config.n, config.error, config.wave)
        case LadderConfig():
            return partial(ladder, [partial(_rung, one) for one in config.rungs], config.stop_at, config.hopeless_after)


def _rung(config: OneSearch, missing: int | None) -> Search:
    """A strategy that ends at so many right answers."""
    return maker(config.model_copy(update={"stop_at": missing}))()


def _steps(config: StepConfig) -> tuple[Step, Valuation]:
    """How far a tree search's steps go, and what they are worth."""
    step = Step(tuple(config.step_stop), config.step_tokens)
    return step, Valuation(config.aggregate, config.continuations)
