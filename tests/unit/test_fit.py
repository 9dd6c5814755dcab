"""What a search and its engine cannot do together is refused by its key, before an engine is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from factory.config import Recipe, parse_recipe
from factory.engines.base import Capabilities
from factory.errors import ConfigError
from factory.render import MessageRenderer, PlainRenderer, TemplateRenderer
from pipelines import build, fit

TEACHER = "pipelines/teachers/countdown"
ABLE = Capabilities(
    token_prompts=True,
    logprobs=True,
    weighs=True,
    rewards=False,
    prefix_caching=True,
    max_running=8,
    max_context=512,
)
UNABLE = replace(ABLE, token_prompts=False, logprobs=False, weighs=False, prefix_caching=False, max_context=None)


def recipe(search: dict[str, Any], **sections: Any) -> Recipe:
    table = {
        "source": {"kind": "countdown", "count": 1, "seed": 7},
        "engines": {"teacher": {"kind": "vllm", "model": TEACHER, "args": {"max_model_len": 512}}},
        "search": search,
    }
    return parse_recipe(table | sections, "recipe")


def beam(**changes: Any) -> dict[str, Any]:
    return {"kind": "beam", "value": "rollouts"} | changes


def judgement(**changes: Any) -> dict[str, Any]:
    return {"kind": "judgement", "cue": "judge"} | changes


@pytest.fixture(scope="module")
def teacher() -> TemplateRenderer:
    renderer = TemplateRenderer(TEACHER)
    renderer.load()
    return renderer


LADDER = {"kind": "ladder", "rungs": [{"kind": "best_of_n"}, beam(step_stop=["\n", "maybe"])]}
FORCED = {"kind": "budget_forcing", "min_thinking": 6, "max_thinking": 9, "wait": "wait\n"}
FORCED |= {"cue": "stop\n</think>\nanswer"}


@pytest.mark.parametrize(
    ("changed", "key", "text"),
    [
        (recipe(beam(step_stop=["\n", "Step"])), "search.step_stop", "Step"),
        (recipe(beam(step_stop=["dead\n\nmaybe"])), "search.step_stop", "dead\n\nmaybe"),
        (recipe(LADDER), "search.rungs.1.step_stop", "maybe"),
        (recipe(FORCED | {"end": "</thinking>"}), "search.end", "</thinking>"),
        (recipe(FORCED | {"wait": "Wait"}), "search.wait", "Wait"),
        (recipe(FORCED | {"cue": "Final answer:"}), "search.cue", "Final answer:"),
        (recipe(FORCED | {"boundary": "step\n", "slack": 1}), "search.boundary", "step\n"),
        (recipe({"kind": "revise"}), "search.criticism", "That is wrong. Try again."),
        (
            recipe(beam(value="score", step_stop=["\n"]), scorer=judgement(cue="Is it right?")),
            "scorer.cue",
            "Is it right?",
        ),
        (recipe(beam(value="score", step_stop=["\n"]), scorer=judgement(yes=" Yes")), "scorer.yes", " Yes"),
        (recipe(beam(value="score", step_stop=["\n"]), scorer=judgement(no="no")), "scorer.no", "no"),
    ],
)
def test_a_text_that_the_tokenizer_cannot_spell(
    changed: Recipe, key: str, text: str, teacher: TemplateRenderer
) -> None:
    with pytest.raises(ConfigError) as refused:
        _check_texts(changed, teacher)
    assert str(refused.value).startswith(f"{key}: the tokenizer cannot spell {text!r}: it would become ")


@pytest.mark.parametrize(
    "changed",
    [
        recipe(beam(step_stop=["\n", "dead\n", "</think>\n"])),
        recipe(beam(step_stop=["left"])),  # ` left` is a token, and ends with it
        recipe(FORCED | {"end": "</think>"}),
        recipe({"kind": "revise", "criticism": "that is wrong try again"}),
        recipe(beam(value="score", step_stop=["\n"]), scorer=judgement()),
        recipe({"kind": "best_of_n"}),
    ],
)
def test_the_teachers_own_texts_pass(changed: Recipe, teacher: TemplateRenderer) -> None:
    _check_texts(changed, teacher)


def _check_texts(changed: Recipe, teacher: TemplateRenderer) -> None:
    fit.check_texts(changed, teacher)
    fit.check_scorer_texts(changed, teacher)


@pytest.mark.parametrize(("least", "fits"), [(7, True), (8, False)])
def test_the_least_thinking_and_a_wait_behind_it_fit_into_the_most(
    least: int, fits: bool, teacher: TemplateRenderer
) -> None:
    """`wait` and the line's end are two tokens."""
    changed = recipe(FORCED | {"min_thinking": least})
    if fits:
        fit.check_texts(changed, teacher)
        return
    with pytest.raises(ConfigError, match=r"^search\.min_thinking: 8 and the 2 tokens of 'wait\\n' are more than 9"):
        fit.check_texts(changed, teacher)


def test_a_wait_that_never_comes_may_be_anything(teacher: TemplateRenderer) -> None:
    fit.check_texts(recipe({"kind": "budget_forcing", "max_thinking": 9, "cue": "stop\n</think>\nanswer"}), teacher)


class Forgetful(PlainRenderer):
    """Its template knows no earlier turns."""

    def turn(self, text: str) -> tuple[int, ...]:
        raise ConfigError("the chat template leaves out what the assistant said before")


def test_a_template_that_knows_one_turn_only_cannot_revise() -> None:
    with pytest.raises(ConfigError, match=r"^search\.criticism: the chat template leaves out"):
        fit.check_texts(recipe({"kind": "revise"}), Forgetful())


def test_every_text_is_spelled_where_characters_are_tokens() -> None:
    fit.check_texts(recipe(beam(step_stop=["Any text", "ß\n"])), PlainRenderer())


def test_nothing_is_said_of_a_tokenizer_that_the_server_keeps() -> None:
    fit.check_texts(recipe({"kind": "revise"}), MessageRenderer())


@pytest.mark.parametrize("search", [beam(), {**beam(), "kind": "dvts"}, {**beam(), "kind": "mcts"}, FORCED])
def test_an_engine_that_takes_no_ids_goes_on_from_nowhere(search: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^search\.kind: '{search['kind']}' goes on from what the model has begun"):
        fit.check_capabilities(recipe(search), UNABLE)
    fit.check_capabilities(recipe(search), ABLE)


def test_a_rung_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^search\.rungs\.1\.kind: 'beam'"):
        fit.check_capabilities(recipe(LADDER), UNABLE)


@pytest.mark.parametrize("search", [{"kind": "best_of_n"}, {"kind": "revise"}])
def test_whole_turns_need_no_ids(search: dict[str, Any]) -> None:
    fit.check_capabilities(recipe(search), UNABLE)


@pytest.mark.parametrize(("most", "fits"), [(511, True), (512, False), (4096, False)])
def test_a_turn_that_fills_the_context_leaves_no_room_for_a_prompt(most: int, fits: bool) -> None:
    changed = recipe({"kind": "best_of_n"}, sampling={"max_tokens": most})
    if fits:
        fit.check_capabilities(changed, ABLE)
        return
    with pytest.raises(ConfigError, match=r"^sampling\.max_tokens: "):
        fit.check_capabilities(changed, ABLE)


def served(protocol: str) -> dict[str, Any]:
    more = {"tokenizer": TEACHER} if protocol == "completions" else {}
    return {"kind": "openai", "model": "m", "base_url": "http://localhost:1/v1", "protocol": protocol, **more}


@pytest.mark.parametrize(
    ("engine", "match"),
    [
        (served("chat"), r"^search\.kind: 'beam'"),
        ({"kind": "scripted", "args": {"token_prompts": False}}, r"^search\.kind: 'beam'"),
        ({"kind": "scripted", "args": {"max_context": 100}}, r"^sampling\.max_tokens: 256"),
    ],
)
def test_what_the_recipes_engine_declares_decides(engine: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build.check_search(recipe(beam(), engines={"teacher": engine}))


def test_a_server_that_takes_ids_is_asked_nothing_yet() -> None:
    build.check_search(recipe(beam(), engines={"teacher": served("completions")}))


def test_the_tokenizer_of_a_local_model_is_looked_at_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"^search\.step_stop: the tokenizer cannot spell 'maybe'"):
        build.check_search(recipe(beam(step_stop=["maybe"])))


@pytest.mark.parametrize(("most", "fits"), [(501, True), (502, False)])
def test_the_first_prompt_and_a_turn_must_fit_into_the_context(most: int, fits: bool) -> None:
    """The prompt of four numbers has 11 tokens, of 512."""
    changed = recipe(beam(step_stop=["\n"]), sampling={"max_tokens": most})
    if fits:
        build.check_search(changed)
        return
    with pytest.raises(ConfigError, match=r"^sampling\.max_tokens: 502 tokens behind a prompt of 11 or more"):
        build.check_search(changed)


def test_a_hub_names_tokenizer_is_the_workers_to_look_at() -> None:
    """Nothing is loaded here; a worker refuses it before it has an engine to start."""
    engines = {"teacher": {"kind": "vllm", "model": "owner/name", "args": {"tokenizer": TEACHER}}}
    changed = recipe(beam(step_stop=["maybe"]), engines=engines)
    build.check_search(changed)
    with pytest.raises(ConfigError, match=r"^search\.step_stop"):
        build.worker_tools(changed.model_dump(mode="json"), build.policy(changed, "digest"), {})


def test_a_judgement_needs_an_engine_that_weighs_tokens() -> None:
    judged = recipe(beam(value="score"), scorer={"kind": "judgement", "cue": "judge"})
    fit.check_scorer(judged, ABLE)
    with pytest.raises(ConfigError, match=r"^scorer\.kind: 'judgement' .* engine 'teacher' does not tell"):
        fit.check_scorer(judged, replace(ABLE, weighs=False))


def test_a_judgement_of_the_teacher_is_spelled_in_single_tokens() -> None:
    judged = recipe(beam(value="score", step_stop=["\n"]), scorer={"kind": "judgement", "cue": "judge"})
    fit.check_scorer_texts(judged, TemplateRenderer(TEACHER))
    wordy = recipe(beam(value="score", step_stop=["\n"]), scorer={"kind": "judgement", "cue": "judge", "no": " no no"})
    with pytest.raises(ConfigError, match=r"^scorer\.no: ' no no' must be one token"):
        fit.check_scorer_texts(wordy, TemplateRenderer(TEACHER))


def rewarded(args: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """A beam that a reward model guides."""
    model = {"kind": "vllm", "model": TEACHER, "args": {"runner": "pooling"} if args is None else args}
    teacher = {"kind": "vllm", "model": TEACHER, "args": {"max_model_len": 512}}
    engines = {"teacher": teacher, "reward": model}
    return recipe(beam(value="score", step_stop=["\n"]), engines=engines, scorer={"kind": "reward"} | changes)


def test_a_reward_model_is_one_of_the_engines_and_gives_rewards() -> None:
    build.check_engines(rewarded())
    build.check_search(rewarded(separator="\n"))
    with pytest.raises(ConfigError, match=r"scorer\.engine: there is no \[engines\.prm\]"):
        rewarded(engine="prm")
    with pytest.raises(ConfigError, match=r"^scorer\.engine: 'reward' is no reward model: .*runner = 'pooling'"):
        build.check_search(rewarded(args={}))
    with pytest.raises(ConfigError, match=r"^scorer\.separator: the tokenizer cannot spell '<extra_0>'"):
        build.check_search(rewarded(separator="<extra_0>"))


def test_a_reward_model_reads_what_the_teacher_writes() -> None:
    short = rewarded(args={"runner": "pooling", "max_model_len": 128})
    with pytest.raises(ConfigError, match=r"^scorer\.engine 'reward': sampling\.max_tokens: .* a context of 128"):
        build.check_search(short)


def test_a_reward_model_is_no_teacher() -> None:
    args = {"max_model_len": 512, "runner": "pooling"}
    engines = {"teacher": {"kind": "vllm", "model": TEACHER, "args": args}}
    with pytest.raises(ConfigError, match=r"^engines\.teacher: it is a reward model"):
        build.check_search(recipe({"kind": "best_of_n"}, engines=engines))


def test_an_engine_that_neither_a_check_nor_the_scorer_names_is_refused() -> None:
    table = rewarded().model_dump(mode="json", exclude_none=True)
    table["scorer"] = {"kind": "judgement", "cue": "judge"}
    with pytest.raises(ConfigError, match=r"^engines\.reward: no check, \[scorer\] or \[prune"):
        build.check_engines(parse_recipe(table, "recipe"))


def test_a_separator_is_for_other_models_than_the_teacher() -> None:
    with pytest.raises(ConfigError, match=r"separator does nothing with engine = 'teacher'"):
        recipe(beam(value="score"), scorer=judgement(separator="x"))
