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
from factory.scorers.reward import RewardScorer
from factory.search_config import JudgementScorer as JudgementConfig
from factory.search_config import RewardScorer as RewardConfig
from factory.types import Node, Problem, Rewarded, Scoring, Weighed
from pipelines.scorers import Asked, scorer, token
from tests.rig import problem
from tests.unit.run_folders import step

STEP = step(1, 0, "a step\n", token_ids=tuple(map(ord, "a step\n")))


def scored(judge: JudgementScorer | LogprobScorer | RewardScorer, path: Sequence[Node] = (STEP,)) -> Score:
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
    asked = scorer(config(), Asked(engine, PlainRenderer(), is_teacher=True))
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
        scorer(config(yes="yes"), Asked(ScriptedEngine(), PlainRenderer(), is_teacher=True))
    assert token(PlainRenderer(), "scorer.no", "n") == ord("n")


def rewarding(*rewards: float, label: int = -1) -> RewardScorer:
    async def reward(problem: Problem, path: Sequence[Node]) -> Rewarded:
        return Rewarded(rewards, 20, 16, 0.0)

    return RewardScorer(reward, label)


def test_a_reward_is_that_of_the_class_that_stands_for_right() -> None:
    assert scored(rewarding(0.7)) == Score(0.7, Scoring(0, 20, 16))
    assert scored(rewarding(0.7, 0.3)).value == 0.3
    assert scored(rewarding(0.7, 0.3, label=0)).value == 0.7


@pytest.mark.parametrize(("rewards", "label"), [((3.2,), -1), ((-0.1,), 0), ((math.nan,), 0), ((0.5,), 1), ((), -1)])
def test_what_is_no_share_is_no_guess_and_was_paid_for(rewards: tuple[float, ...], label: int) -> None:
    assert scored(rewarding(*rewards, label=label)) == Score(None, Scoring(0, 20, 16))


def test_trouble_of_a_reward_model_is_no_guess_and_its_death_is_told() -> None:
    def failing(error: Exception) -> RewardScorer:
        async def reward(problem: Problem, path: Sequence[Node]) -> Rewarded:
            raise error

        return RewardScorer(reward)

    assert scored(failing(EngineError("full"))) == Score(None)
    with pytest.raises(EngineDead):
        scored(failing(EngineDead("gone")))


TWO_STEPS = (STEP, step(2, 1, "another\n", token_ids=(1, 2)))


async def read_by(config: JudgementConfig | RewardConfig) -> str:
    """What another model than the teacher reads behind its own prompt."""
    engine = ScriptedEngine(
        lambda *_: Reply("0.5", chances={"y": 0.5, "n": 0.5}), rewards=isinstance(config, RewardConfig)
    )
    await engine.start()
    found = await scorer(config, Asked(engine, PlainRenderer(), is_teacher=False)).score(problem(1), TWO_STEPS)
    assert found.value == pytest.approx(0.5)
    (prompt, request) = engine.requests[0]
    assert request.key.startswith(f"{problem(1).id}/2/")
    before = PlainRenderer().render(problem(1).messages).token_ids or ()
    assert (prompt.token_ids or ())[: len(before)] == before
    return "".join(map(chr, (prompt.token_ids or ())[len(before) :]))


async def test_another_model_reads_the_text_of_the_steps_and_what_separates_them() -> None:
    assert await read_by(RewardConfig(kind="reward", separator="<+>")) == "a step\n<+>another\n<+>"
    assert await read_by(RewardConfig(kind="reward")) == "a step\nanother\n"
    judging = JudgementConfig(kind="judgement", cue="? ", yes="y", no="n", engine="judge", separator="<+>")
    assert await read_by(judging) == "a step\n<+>another\n? "
