"""The engine without a model: what it answers, that it repeats, and how it fails when told to."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine, cut, from_args
from factory.errors import ConfigError, EngineDead, EngineError
from factory.render import MessageRenderer, PlainRenderer
from factory.sources.countdown import Instance, Split, instances
from factory.types import FinishReason, Generation, Message, Sampling
from pipelines.teachers.countdown.language import STOP_CUE, WAIT_CUE, answer_in, is_right, replay

LONG = Sampling(max_tokens=2000)
GREEDY = replace(LONG, temperature=0.0)
PROBLEMS = list(instances(Split.TRAIN, 60, seed=5))


def question(instance: Instance) -> Prompt:
    numbers = " ".join(map(str, instance.numbers))
    return PlainRenderer().render((Message("user", f"make {instance.target} from {numbers}"),))


def behind(prompt: Prompt, text: str) -> Prompt:
    return replace(prompt, token_ids=(prompt.token_ids or ()) + tuple(map(ord, text)))


async def started(engine: ScriptedEngine) -> ScriptedEngine:
    await engine.start()
    return engine


async def ask(engine: ScriptedEngine, prompt: Prompt, key: str = "", sampling: Sampling = LONG) -> Generation:
    return await engine.generate(prompt, Request(sampling, key=key))


async def test_prompt_key_and_seed_decide_the_answer_and_nothing_else() -> None:
    prompt = question(PROBLEMS[0])
    first, second = await started(ScriptedEngine(seed=1)), await started(ScriptedEngine(seed=1))
    other = await started(ScriptedEngine(seed=2))
    keys = [str(number) for number in range(20)]
    answers = [(await ask(first, prompt, key)).text for key in keys]
    assert [(await ask(second, prompt, key)).text for key in reversed(keys)] == answers[::-1]
    assert [(await ask(other, prompt, key)).text for key in keys] != answers
    assert len(set(answers)) > 3


async def test_a_greedy_answer_does_not_depend_on_the_key() -> None:
    engine = await started(ScriptedEngine())
    assert len({(await ask(engine, question(PROBLEMS[0]), key, GREEDY)).text for key in "abcdef"}) == 1


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
async def test_countdown_attempts_are_legal_and_right_at_the_rate_asked_for(rate: float) -> None:
    engine = await started(ScriptedEngine(solve_rate=rate))
    answers = [(each, (await ask(engine, question(each), str(n))).text) for each in PROBLEMS for n in range(5)]
    right = 0
    for instance, text in answers:
        played = replay(instance, text)
        assert played.fault is None
        assert played.closed
        right += is_right(instance, answer_in(text) or "")
    assert abs(right / len(answers) - rate) < (0.1 if 0.0 < rate < 1.0 else 0.01)
    assert 0.2 < sum("\nback " in text for _, text in answers) / len(answers) < 0.8


async def test_a_slip_is_a_false_line_in_front_of_a_right_answer() -> None:
    engine = await started(ScriptedEngine(solve_rate=1.0, slip_rate=1.0))
    for instance in PROBLEMS[:20]:
        text = (await ask(engine, question(instance))).text
        assert is_right(instance, answer_in(text) or "")
        assert replay(instance, text).fault is not None


@given(st.sampled_from(PROBLEMS), st.integers(1, 200), st.integers(1, 200))
def test_an_answer_made_in_parts_is_the_one_made_at_once(instance: Instance, first: int, second: int) -> None:
    async def run() -> None:
        engine = await started(ScriptedEngine())
        prompt, text = question(instance), ""
        for limit in (first, second, 2000):
            text += (await ask(engine, behind(prompt, text), sampling=replace(GREEDY, max_tokens=limit))).text
        assert text == (await ask(engine, prompt, sampling=GREEDY)).text

    asyncio.run(run())


@given(st.sampled_from(PROBLEMS), st.text("ab", max_size=3), st.data())
def test_another_attempts_beginning_is_continued_legally(instance: Instance, key: str, data: st.DataObject) -> None:
    async def run() -> None:
        begun = (await ask(await started(ScriptedEngine(seed=1)), question(instance))).text
        ends = [index + 1 for index, char in enumerate(begun) if char == "\n"]
        begun = begun[: data.draw(st.sampled_from(ends))]
        engine = await started(ScriptedEngine(seed=2, solve_rate=1.0))
        text = begun + (await ask(engine, behind(question(instance), begun), key)).text
        played = replay(instance, text)
        assert played.fault is None
        assert played.closed
        assert is_right(instance, answer_in(text) or "") or "dead\n</think>" in text or "done\n</think>" in begun

    asyncio.run(run())


async def test_cues_are_obeyed() -> None:
    engine = await started(ScriptedEngine(solve_rate=0.0))
    instance = PROBLEMS[0]
    tried = (await ask(engine, question(instance))).text.split("dead\n")[0]
    dead = f"{tried}dead\n{WAIT_CUE}"
    assert (await ask(engine, behind(question(instance), dead))).text.startswith("back ")
    assert (await ask(engine, behind(question(instance), f"{tried}{STOP_CUE}"))).text.startswith(" ")
    judged = await ask(engine, behind(question(instance), f"{tried}judge"))
    assert judged.text.split("\n")[0] in {" yes", " no"}


async def test_the_question_may_stand_before_the_last_turn() -> None:
    engine = await started(ScriptedEngine(solve_rate=1.0))
    first = Message("user", "make 46 from 3 7 12 25")
    turns = (first, Message("assistant", "answer 3"), Message("user", "that is wrong try again"))
    text = (await ask(engine, PlainRenderer().render(turns))).text
    assert is_right(Instance((3, 7, 12, 25), 46), answer_in(text) or "")


async def test_a_chat_engine_is_given_messages_and_tells_no_ids() -> None:
    engine = await started(ScriptedEngine(token_prompts=False))
    prompt = MessageRenderer().render((Message("user", "make 46 from 3 7 12 25"),))
    whole = await ask(engine, prompt, sampling=GREEDY)
    assert (whole.token_ids, whole.logprobs) == (None, None)
    rest = await ask(engine, replace(prompt, prefix=whole.text[:40]), sampling=GREEDY)
    assert rest.text == whole.text[40:]


async def test_mapped_answers_and_functions() -> None:
    mapped = await started(ScriptedEngine({"two and two?": "four"}))
    prompt = PlainRenderer().render((Message("user", "two and two?"),))
    assert (await ask(mapped, prompt)).text == "four"
    assert (await ask(mapped, behind(prompt, "fo"))).text == "ur"
    with pytest.raises(EngineError, match="no answer to 'other'"):
        await ask(mapped, PlainRenderer().render((Message("user", "other"),)))
    broken = await started(ScriptedEngine(lambda prompt, request: Reply("", error="as told")))
    with pytest.raises(EngineError, match="as told"):
        await ask(broken, prompt)


async def test_other_questions_are_answered_with_words() -> None:
    for script in ("countdown", "words"):
        engine = await started(ScriptedEngine(script))
        answer = await ask(engine, PlainRenderer().render((Message("user", "hello"),)))
        assert answer.finish is FinishReason.END
        assert answer.text


@given(st.text("ab\n", max_size=30), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3), st.integers(1, 40))
def test_cutting_is_what_generating_one_token_at_a_time_does(text: str, stop: list[str], room: int) -> None:
    def one_by_one() -> tuple[str, FinishReason]:
        for end in range(1, len(text) + 1):
            if text[:end].endswith(tuple(stop)):
                return text[:end], FinishReason.STOP
            if end == room:
                return text[:end], FinishReason.LENGTH
        return text, FinishReason.END

    assert cut(text, tuple(stop), room) == one_by_one()


async def test_the_end_of_turn_costs_a_token() -> None:
    engine = await started(ScriptedEngine({"q": "four"}))
    prompt = PlainRenderer().render((Message("user", "q"),))
    ended = await ask(engine, prompt)
    assert (ended.finish, ended.generated_tokens, ended.token_ids) == (FinishReason.END, 5, tuple(map(ord, "four")))
    cut_off = await ask(engine, prompt, sampling=replace(LONG, max_tokens=4))
    assert (cut_off.finish, cut_off.generated_tokens) == (FinishReason.LENGTH, 4)


async def test_every_nth_request_fails_when_told_to() -> None:
    engine = await started(ScriptedEngine(fail_every=3))
    prompt = question(PROBLEMS[0])
    ends = await asyncio.gather(*(ask(engine, prompt, str(n)) for n in range(9)), return_exceptions=True)
    assert [isinstance(end, EngineError) for end in ends] == [False, False, True] * 3


async def test_it_dies_when_told_to_and_takes_what_is_in_flight_with_it() -> None:
    engine = await started(ScriptedEngine(die_after=3, seconds_per_token=1000.0))
    prompt = question(PROBLEMS[0])
    tasks = [asyncio.ensure_future(ask(engine, prompt, str(n))) for n in range(5)]
    async with asyncio.timeout(5):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, EngineDead) for end in ends)
    with pytest.raises(EngineDead):
        await ask(engine, prompt)


async def test_it_answers_nothing_before_start_and_after_close() -> None:
    engine = ScriptedEngine()
    with pytest.raises(EngineDead, match="not started"):
        await ask(engine, question(PROBLEMS[0]))
    await engine.start()
    await engine.close()
    with pytest.raises(EngineDead, match="closed"):
        await ask(engine, question(PROBLEMS[0]))


async def test_no_more_run_at_once_than_may() -> None:
    engine = await started(ScriptedEngine(max_running=2, delay_turns=5))
    tasks = [asyncio.ensure_future(ask(engine, question(PROBLEMS[0]), str(n))) for n in range(6)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (engine.stats.running, engine.stats.waiting) == (2, 4)
    await asyncio.gather(*tasks)
    assert (engine.stats.running, engine.stats.waiting) == (0, 0)


async def test_requests_are_recorded_unless_told_otherwise() -> None:
    prompt = question(PROBLEMS[0])
    recording, silent = await started(ScriptedEngine()), await started(ScriptedEngine(record=False))
    for engine in (recording, silent):
        await ask(engine, prompt, "a")
    assert [(seen, request.key) for seen, request in recording.requests] == [(prompt, "a")]
    assert silent.requests == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"solve_rat": 1.0}, "no argument 'solve_rat', did you mean 'solve_rate'"),
        ({"solve_rate": 2.0}, "between 0 and 1"),
        ({"max_running": 0}, "at least 1"),
        ({"script": "chess"}, "no script 'chess'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(args: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_args(args)


def test_plain_arguments_make_an_engine() -> None:
    assert from_args({"seed": 3, "solve_rate": 0.2, "max_running": 7}).capabilities.max_running == 7
