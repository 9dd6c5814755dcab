"""Guesses about prefixes: what they come to, what they cost, and that trouble is no guess."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine
from factory.errors import ConfigError, EngineDead, EngineError
from factory.render import PlainRenderer
from factory.scorers.base import Score
from factory.scorers.judgement import JudgementScorer, share
from factory.scorers.logprob import LogprobScorer
from factory.search_config import JudgementScorer as JudgementConfig
from factory.types import Node, Problem, Scoring, Weighed
from pipelines.scorers import scorer, token
from tests.rig import problem
from tests.unit.run_folders import step

STEP = step(1, 0, "a step\n", token_ids=tuple(map(ord, "a step\n")))


def scored(judge: JudgementScorer | LogprobScorer, path: Sequence[Node] = (STEP,)) -> Score:
    return asyncio.run(judge.score(problem(1), path))


def weighing(yes: float, no: float) -> JudgementScorer:
    async def weigh(problem: Problem, path: Sequence[Node]) -> Weighed:
        return Weighed((math.log(yes), math.log(no)), 1, 20, 16, 0.0)

    return JudgementScorer(weigh)


def failing(error: Exception) -> JudgementScorer:
    async def weigh(problem: Problem, path: Sequence[Node]) -> Weighed:
        raise error

    return JudgementScorer(weigh)


def test_a_judgement_is_the_share_of_yes_and_costs_a_token() -> None:
    found = scored(weighing(0.3, 0.1))
    assert found.value == pytest.approx(0.75)
    assert found.scoring == Scoring(1, 20, 16)


def test_trouble_is_no_guess_and_a_dead_engine_is_told() -> None:
    assert scored(failing(EngineError("full"))) == Score(None)
    with pytest.raises(EngineDead):
        scored(failing(EngineDead("gone")))


@given(st.floats(max_value=0.0), st.floats(max_value=0.0))
def test_a_share_is_a_number_between_0_and_1_or_none(yes: float, no: float) -> None:
    value = share(yes, no)
    if max(yes, no) == -math.inf:
        assert value is None
    else:
        assert value is not None
        assert 0.0 <= value <= 1.0
        assert value == pytest.approx(1.0 - (share(no, yes) or 0.0))


def test_log_probabilities_are_of_the_last_step() -> None:
    path = [replace(STEP, logprobs=(-9.0,)), replace(STEP, logprobs=(math.log(0.5), math.log(0.125)))]
    assert scored(LogprobScorer(), path).value == pytest.approx(0.25)
    assert scored(LogprobScorer(), [replace(STEP, logprobs=None)]) == Score(None)
    assert scored(LogprobScorer(), [replace(STEP, logprobs=())]) == Score(None)


def config(yes: str = "y") -> JudgementConfig:
    return JudgementConfig(kind="judgement", cue="? ", yes=yes, no="n")


async def test_the_cue_stands_behind_the_path_and_is_asked_about_by_ids() -> None:
    def doubtful(prompt: Prompt, _: Request) -> Reply:
        return Reply("y", chances={"y": 0.2, "n": 0.6})

    engine = ScriptedEngine(doubtful)
    await engine.start()
    asked = scorer(config(), engine, PlainRenderer())
    assert isinstance(asked, JudgementScorer)
    found = await asked.score(problem(1), [STEP])
    assert found.value == pytest.approx(0.25)
    assert found.scoring is not None
    assert found.scoring.generated_tokens == 1
    ((prompt, _),) = engine.requests
    assert prompt.token_ids is not None
    assert "".join(map(chr, prompt.token_ids)).endswith("\x03a step\n? ")


def test_yes_and_no_are_one_token_each() -> None:
    with pytest.raises(ConfigError, match=r"^scorer\.yes: 'yes' must be one token"):
        scorer(config(yes="yes"), ScriptedEngine(), PlainRenderer())
    assert token(PlainRenderer(), "scorer.no", "n") == ord("n")
