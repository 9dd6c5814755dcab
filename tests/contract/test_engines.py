"""What every engine promises, put to each of them: see `factory/engines/base.py`.

The vLLM ones are real: an engine in this process, its server behind HTTP, real signals. Tests that end an engine stand
last.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from factory.engines import vllm
from factory.engines.base import Engine, Prompt, Request, path_ids
from factory.errors import ConfigError, EngineDead, EngineError
from factory.types import FinishReason, Generation, Message, Sampling, Weighed
from tests.contract.engine_cases import (
    PLACES,
    Case,
    Server,
    copy_teacher,
    openai_case,
    openai_engine,
    scripted_case,
    scripted_engine,
    until,
    vllm_case,
    vllm_engine,
)

REAL = pytest.mark.vllm
QUESTION = (Message("user", "make 46 from 3 7 12 25"),)
ENDLESS = {"ignore_eos": True}
GREEDY = Sampling(temperature=0.0, max_tokens=300)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_teacher(tmp_path_factory.mktemp("teacher") / "model")


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    served = Server(model, tmp_path_factory.mktemp("server") / "log")
    yield served
    served.kill()


@pytest.fixture(
    scope="session",
    params=[
        "scripted",
        pytest.param("vllm", marks=REAL),
        pytest.param("chat", marks=REAL),
        pytest.param("completions", marks=REAL),
    ],
)
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    """An engine of each kind, started once and shared by the tests."""
    started = await _start(request, request.param)
    yield started
    await started.engine.close()


async def _start(request: pytest.FixtureRequest, kind: str) -> Case:
    if kind == "scripted":
        scripted = scripted_engine()
        await scripted.start()
        return scripted_case(scripted)
    model = request.getfixturevalue("model")
    if kind == "vllm":
        real = vllm_engine(model)
        await real.start()
        return vllm_case(real, model)
    server = request.getfixturevalue("server")
    server.ensure()
    remote = openai_engine(server, "chat" if kind == "chat" else "completions")
    await remote.start()
    return openai_case(remote, server, model)


def asked(case: Case, **sampling: Any) -> tuple[Prompt, Request]:
    return case.renderer.render(QUESTION), Request(Sampling(**sampling), key="question")


async def test_capabilities_are_told_as_they_are(case: Case) -> None:
    told = case.engine.capabilities
    assert told.max_running == PLACES
    assert told.max_context in {512, 1024}
    assert told.token_prompts == (case.renderer.render(QUESTION).token_ids is not None)
    assert told.weighs == told.token_prompts


async def test_many_at_once_get_each_their_own_answer(case: Case) -> None:
    prompt = case.renderer.render(QUESTION)
    lengths = [1 + number % 40 for number in range(6 * PLACES)]
    answers = await asyncio.gather(
        *(case.engine.generate(prompt, Request(Sampling(max_tokens=each, extra=ENDLESS))) for each in lengths)
    )
    assert [answer.generated_tokens for answer in answers] == lengths
    assert {answer.finish for answer in answers} == {FinishReason.LENGTH}


async def test_the_end_of_turn_is_counted_but_not_told(case: Case) -> None:
    answers = await asyncio.gather(*(case.engine.generate(*asked(case, max_tokens=400)) for _ in range(PLACES)))
    ended = [answer for answer in answers if answer.finish is FinishReason.END]
    assert ended
    for answer in ended:
        assert "</s>" not in answer.text
        assert answer.text.startswith("<think>\n")
        assert answer.token_ids is None or answer.generated_tokens == len(answer.token_ids) + 1


async def test_a_stop_string_ends_the_text_and_stays_in_it(case: Case) -> None:
    prompt, request = asked(case, max_tokens=100)
    answer = await case.engine.generate(prompt, replace(request, stop=("absent", "\n")))
    assert answer.finish is FinishReason.STOP
    assert answer.text == "<think>\n"


async def test_a_stop_string_that_ends_inside_a_token_leaves_ids_and_text_in_agreement(case: Case) -> None:
    prompt, request = asked(case, max_tokens=100)
    answer = await case.engine.generate(prompt, replace(request, stop=("thi",)))
    assert answer.finish is FinishReason.STOP
    assert "thi" in answer.text
    assert answer.token_ids is None or case.spell(answer.token_ids) == answer.text


async def test_a_token_that_holds_a_stop_string_ends_the_work_on_a_request_at_once(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(case.engine, vllm.VllmEngine):
        pytest.skip("only vLLM in this process shows what its core has made")
    made: list[int] = []
    processor = case.engine._llm.output_processor
    process = processor.process_outputs

    def spy(outputs: Any, *rest: Any, **named: Any) -> Any:
        made.extend(token for output in outputs for token in output.new_token_ids)
        return process(outputs, *rest, **named)

    monkeypatch.setattr(processor, "process_outputs", spy)
    prompt, request = asked(case, max_tokens=60)
    stops = (("\n",), ("thi",), ("absent", "\n"))
    answers = await asyncio.gather(*(case.engine.generate(prompt, replace(request, stop=stop)) for stop in stops))
    await case.engine.generate(*asked(case, max_tokens=3, extra=ENDLESS))  # whatever else was made has come by now
    assert {answer.finish for answer in answers} == {FinishReason.STOP}
    assert len(made) == sum(answer.generated_tokens for answer in answers) + 3


async def test_tokens_that_end_a_turn_and_stop_strings_stand_together(case: Case) -> None:
    if not isinstance(case.engine, vllm.VllmEngine):
        pytest.skip("what ends a turn by token id is vLLM's own parameter")
    prompt, request = asked(case, max_tokens=60, extra={"stop_token_ids": case.encode("\n")})
    answer = await case.engine.generate(prompt, replace(request, stop=("absent",)))
    assert (answer.finish, answer.text) == (FinishReason.END, "<think>")


async def test_seeded_requests_with_long_prompts_do_not_hurt_the_engine(case: Case) -> None:
    """More tokens than one step computes: of a prompt that is computed in parts vLLM's core on CPUs would die."""
    if not isinstance(case.engine, vllm.VllmEngine):
        pytest.skip("it is vLLM's core that computes prompts in parts")
    ids = case.renderer.render(QUESTION).token_ids or ()
    long = (ids * 400)[:400]
    prompts = [Prompt((), token_ids=(ids[number % len(ids)], *long)) for number in range(PLACES)]
    answers = await asyncio.gather(
        *(
            case.engine.generate(prompt, Request(Sampling(max_tokens=5, extra=ENDLESS), seed=number))
            for number, prompt in enumerate(prompts)
        )
    )
    assert [answer.generated_tokens for answer in answers] == [5] * PLACES


async def test_the_length_limit_is_exact(case: Case) -> None:
    answer = await case.engine.generate(*asked(case, max_tokens=7, extra=ENDLESS))
    assert (answer.finish, answer.generated_tokens) == (FinishReason.LENGTH, 7)
    assert answer.token_ids is None or len(answer.token_ids) == 7


async def test_ids_spell_the_text_however_it_ended(case: Case) -> None:
    if not case.engine.capabilities.token_prompts:
        pytest.skip("tells no ids")
    prompt = case.renderer.render(QUESTION)
    requests = [
        Request(Sampling(max_tokens=limit), stop, key=f"{limit} {stop}")
        for limit in (1, 30, 400)
        for stop in ((), ("\n",), ("</think>\nan",))
    ]
    for answer in await asyncio.gather(*(case.engine.generate(prompt, request) for request in requests)):
        assert answer.token_ids is not None
        assert case.spell(answer.token_ids) == answer.text


async def test_a_text_made_in_two_parts_is_the_one_made_at_once(case: Case) -> None:
    # Greedy choices between near equals may fall either way with the shape of a batch, so what is compared is the
    # stretch in which the model is sure: after `try 3 + 7` there is no choice in what follows.
    prompt = _continued(case, case.renderer.render(QUESTION), "<think>\ntry 3 + 7")
    logprobs = case.engine.capabilities.logprobs
    whole = await case.engine.generate(prompt, Request(replace(GREEDY, max_tokens=6, logprobs=logprobs)))
    assert all(math.exp(each) > 0.55 for each in whole.logprobs or ())
    first = await case.engine.generate(prompt, Request(replace(GREEDY, max_tokens=3)))
    second = await case.engine.generate(_behind(prompt, first), Request(replace(GREEDY, max_tokens=3)))
    assert first.text + second.text == whole.text
    assert whole.token_ids is None or (first.token_ids or ()) + (second.token_ids or ()) == whole.token_ids
    assert second.prompt_tokens == whole.prompt_tokens + 3


def _continued(case: Case, prompt: Prompt, text: str) -> Prompt:
    if prompt.token_ids is None:
        return replace(prompt, prefix=text)
    return replace(prompt, token_ids=prompt.token_ids + tuple(case.encode(text)))


def _behind(prompt: Prompt, answer: Generation) -> Prompt:
    if prompt.token_ids is None:
        return replace(prompt, prefix=prompt.prefix + answer.text)
    return replace(prompt, token_ids=path_ids(prompt, [answer.token_ids]))


async def test_logprobs_are_told_of_each_token_when_asked(case: Case) -> None:
    if not case.engine.capabilities.logprobs:
        pytest.skip("tells no log-probabilities")
    prompt, request = asked(case, max_tokens=400, logprobs=True)
    requests = [request] * PLACES + [
        replace(request, stop=("\n",)),
        replace(request, sampling=_short(request.sampling)),
    ]
    answers = await asyncio.gather(*(case.engine.generate(prompt, each) for each in requests))
    assert {answer.finish for answer in answers} == set(FinishReason)
    for answer in answers:
        assert answer.logprobs is not None
        assert answer.token_ids is not None
        assert len(answer.logprobs) == len(answer.token_ids)
        assert all(each <= 0.0 for each in answer.logprobs)
    assert (await case.engine.generate(*asked(case, max_tokens=3))).logprobs is None


def _short(sampling: Sampling) -> Sampling:
    return replace(sampling, max_tokens=3)


CHAIN = "<think>\ntry 3 + 7"
"""What follows is hardly a choice: ` =`, for all engines under contract."""


def _weighed_prompt(case: Case, text: str = CHAIN) -> Prompt:
    if not case.engine.capabilities.weighs:
        pytest.skip("weighs no tokens")
    return _continued(case, case.renderer.render(QUESTION), text)


async def test_tokens_are_weighed_each_in_its_place(case: Case) -> None:
    prompt = _weighed_prompt(case)
    sure, never = case.encode(" =")[0], case.encode("\n")[0]
    weighed = await case.engine.weigh(prompt, (never, sure), "question")
    assert weighed.logprobs[0] < math.log(0.1) < math.log(0.5) < weighed.logprobs[1] <= 0.0
    again = await case.engine.weigh(prompt, (sure, never, sure), "question")
    assert again.logprobs == pytest.approx([weighed.logprobs[place] for place in (1, 0, 1)], abs=1e-3)
    (alone,) = (await case.engine.weigh(prompt, (never,), "question")).logprobs
    assert alone == pytest.approx(weighed.logprobs[0], abs=1e-3)


async def test_weighing_tells_what_it_cost(case: Case) -> None:
    prompt = _weighed_prompt(case)
    before = case.engine.stats
    weighed = await case.engine.weigh(prompt, case.encode("\n"))
    after = case.engine.stats
    assert weighed.generated_tokens == 1
    assert weighed.prompt_tokens == len(prompt.token_ids or ())
    assert weighed.seconds > 0.0
    assert after.generated_tokens - before.generated_tokens == 1
    assert after.prompt_tokens - before.prompt_tokens == weighed.prompt_tokens


async def test_what_is_weighed_is_served_from_the_prefix_cache(case: Case) -> None:
    prompt = _weighed_prompt(case, CHAIN + " 3" * 300)
    if not case.engine.capabilities.prefix_caching:
        pytest.skip("caches no prefix")
    await case.engine.generate(prompt, Request(Sampling(max_tokens=1)))
    first = await case.engine.weigh(prompt, case.encode("\n"))
    second = await case.engine.generate(prompt, Request(Sampling(max_tokens=1)))
    assert first.cached_tokens == second.cached_tokens
    assert (first.cached_tokens or 0) >= 256


async def test_a_prompt_is_read_as_its_tokens_are_weighed(case: Case) -> None:
    prompt = _weighed_prompt(case, CHAIN + " = 10 left")
    ids = prompt.token_ids or ()
    places = [len(ids) - 9, len(ids) - 5, len(ids) - 2, len(ids) - 1]
    read = await case.engine.read(prompt, places, "question")
    for place, logprob in zip(places, read.logprobs, strict=True):
        before = replace(prompt, token_ids=ids[:place])
        (weighed,) = (await case.engine.weigh(before, (ids[place],), "question")).logprobs
        assert logprob == pytest.approx(weighed, abs=1e-3)
    alone = await case.engine.read(prompt, places[1:2], "question")
    assert alone.logprobs == pytest.approx(read.logprobs[1:2], abs=1e-3)
    assert (read.prompt_tokens, alone.prompt_tokens) == (len(ids), places[1] + 1)
    assert read.generated_tokens == 1


async def test_many_readings_beside_generations_each_get_their_own(case: Case) -> None:
    texts = [CHAIN + " = 10" * number for number in range(1, 9)]
    prompts = [_weighed_prompt(case, text) for text in texts]
    request = Request(replace(GREEDY, max_tokens=6))
    alone = [await case.engine.read(one, [len(one.token_ids or ()) - 1]) for one in prompts]
    plain = await case.engine.generate(prompts[0], request)
    *together, beside = await asyncio.gather(
        *(case.engine.read(one, [len(one.token_ids or ()) - 1]) for one in prompts),
        case.engine.generate(prompts[0], request),
    )
    told = [one.logprobs[0] for one in together if isinstance(one, Weighed)]
    assert told == pytest.approx([one.logprobs[0] for one in alone], abs=1e-3)
    assert isinstance(beside, Generation)
    assert beside.token_ids == plain.token_ids


async def test_a_prompt_that_cannot_be_read_hurts_no_other(case: Case) -> None:
    prompt = _weighed_prompt(case)
    long = replace(prompt, token_ids=(prompt.token_ids or ()) * 80)
    last = len(prompt.token_ids or ()) - 1
    good, error = await asyncio.gather(
        case.engine.read(prompt, [last]), case.engine.read(long, [80 * last]), return_exceptions=True
    )
    assert not isinstance(good, BaseException)
    assert isinstance(error, EngineError)


async def test_weighing_disturbs_no_generation_beside_it(case: Case) -> None:
    prompt = _weighed_prompt(case)
    request = Request(replace(GREEDY, max_tokens=6, logprobs=True))
    alone = await case.engine.generate(prompt, request)
    choices = case.encode("\n = +")
    *weighed, beside, plain = await asyncio.gather(
        *(case.engine.weigh(prompt, choices[: 1 + number % 3]) for number in range(4)),
        case.engine.generate(prompt, request),
        case.engine.generate(prompt, replace(request, sampling=replace(GREEDY, max_tokens=6))),
    )
    assert isinstance(beside, Generation)
    assert isinstance(plain, Generation)
    assert beside.token_ids == plain.token_ids == alone.token_ids
    assert beside.logprobs == pytest.approx(alone.logprobs, abs=1e-3)
    assert plain.logprobs is None
    assert [len(one.logprobs) for one in weighed if isinstance(one, Weighed)] == [1, 2, 3, 1]


async def test_a_bad_question_about_tokens_hurts_no_other(case: Case) -> None:
    prompt = _weighed_prompt(case)
    long = replace(prompt, token_ids=(prompt.token_ids or ()) * 80)
    good, error = await asyncio.gather(
        case.engine.weigh(prompt, (5,)), case.engine.weigh(long, (5,)), return_exceptions=True
    )
    assert not isinstance(good, BaseException)
    assert isinstance(error, EngineError)
    assert not isinstance(error, EngineDead)


async def test_an_engine_that_weighs_nothing_says_what_it_takes(case: Case) -> None:
    if case.engine.capabilities.weighs:
        pytest.skip("weighs tokens")
    with pytest.raises(ConfigError, match="completions"):
        await case.engine.weigh(case.renderer.render(QUESTION), (5,))


@REAL
@pytest.mark.parametrize("case", ["vllm", "completions"], indirect=True)
async def test_weights_are_the_models_own_whatever_the_sampling(case: Case) -> None:
    prompt = _weighed_prompt(case, "<think>\ntry")
    for sampling in (Sampling(temperature=0.3), Sampling(temperature=2.0, top_k=3), Sampling(top_p=0.2)):
        said = await case.engine.generate(prompt, Request(replace(sampling, max_tokens=1, logprobs=True)))
        assert said.token_ids is not None
        assert said.logprobs is not None
        weighed = await case.engine.weigh(prompt, said.token_ids)
        assert weighed.logprobs == pytest.approx(said.logprobs, abs=1e-3)


@REAL
@pytest.mark.parametrize("case", ["vllm"], indirect=True)
async def test_weights_of_all_tokens_sum_to_one(case: Case) -> None:
    prompt = _weighed_prompt(case, "<think>\ntry")
    halves = [await case.engine.weigh(prompt, tokens) for tokens in (range(118), range(118, 236))]
    total = sum(math.exp(each) for half in halves for each in half.logprobs)
    assert total == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(EngineError, match="236"):
        await case.engine.weigh(prompt, (236,))


async def test_what_it_cost_is_told(case: Case) -> None:
    before = case.engine.stats
    answer = await case.engine.generate(*asked(case, max_tokens=20))
    after = case.engine.stats
    assert answer.prompt_tokens > 0
    assert answer.seconds > 0.0
    assert after.generated_tokens - before.generated_tokens == answer.generated_tokens
    assert after.prompt_tokens - before.prompt_tokens == answer.prompt_tokens
    if case.engine.capabilities.prefix_caching:
        assert answer.cached_tokens is not None


async def test_cancelling_frees_the_place(case: Case) -> None:
    prompt, request = asked(case, max_tokens=450, extra=ENDLESS)
    tasks = [asyncio.ensure_future(case.engine.generate(prompt, request)) for _ in range(2 * PLACES)]
    await until(_full(case))
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError | Generation) for end in ends)
    assert any(isinstance(end, asyncio.CancelledError) for end in ends)
    await until(_idle(case))
    async with asyncio.timeout(30):
        assert (await case.engine.generate(*asked(case, max_tokens=5))).generated_tokens <= 5


def _full(case: Case) -> Callable[[], Awaitable[bool]]:
    async def full() -> bool:
        return case.engine.stats.running > 0 and case.engine.stats.waiting > 0

    return full


def _idle(case: Case) -> Callable[[], Awaitable[bool]]:
    async def idle() -> bool:
        stats = case.engine.stats
        return (stats.running, stats.waiting, await case.busy()) == (0, 0, 0)

    return idle


async def test_a_bad_request_hurts_no_other(case: Case) -> None:
    long = case.renderer.render((Message("user", "3 " * 1200),))
    good = case.engine.generate(*asked(case, max_tokens=20))
    bad = case.engine.generate(long, Request(Sampling(max_tokens=20)))
    also_good = case.engine.generate(*asked(case, max_tokens=20))
    first, error, second = await asyncio.gather(good, bad, also_good, return_exceptions=True)
    assert isinstance(first, Generation)
    assert isinstance(second, Generation)
    assert isinstance(error, EngineError)
    assert not isinstance(error, EngineDead)


@REAL
@pytest.mark.parametrize("case", ["vllm"], indirect=True)
async def test_vllm_refuses_sampling_parameters_that_it_does_not_know(case: Case) -> None:
    with pytest.raises(ConfigError, match=r"repetition_penaltie.*did you mean 'repetition_penalty'"):
        await case.engine.generate(*asked(case, extra={"repetition_penaltie": 1.0}))
    with pytest.raises(ConfigError, match="no sampling parameter 'n'"):
        await case.engine.generate(*asked(case, extra={"n": 2}))
    with pytest.raises(EngineError, match="top_p"):
        await case.engine.generate(*asked(case, top_p=7.0))


@REAL
@pytest.mark.parametrize("args", [{"max_num_seq": 4}, {"max_model_len": 4096}])
async def test_vllm_refuses_engine_arguments_that_cannot_work(model: Path, args: dict[str, Any]) -> None:
    engine = vllm.VllmEngine(str(model), args)
    with pytest.raises(ConfigError, match=r"max_num_seqs|max_model_len"):
        await engine.start()
    await engine.close()


# --- the end of an engine


async def test_closing_twice_ends_everything(case: Case) -> None:
    before = _engine_processes()
    on_its_way = asyncio.ensure_future(case.engine.generate(*asked(case, max_tokens=450, extra=ENDLESS)))
    await until(_busy(case.engine))
    async with asyncio.timeout(60):
        await case.engine.close()
        await case.engine.close()
        with pytest.raises(EngineDead):
            await on_its_way
        with pytest.raises(EngineDead):
            await case.engine.generate(*asked(case))
        with pytest.raises(EngineDead):
            await case.engine.weigh(asked(case)[0], (5,))
    if isinstance(case.engine, vllm.VllmEngine):
        assert len(before) >= 2
        assert not [process for process in before if process.is_running()]


def _busy(engine: Engine) -> Callable[[], Awaitable[bool]]:
    async def busy() -> bool:
        return engine.stats.running > 0

    return busy


def _engine_processes() -> list[psutil.Process]:
    """vLLM's processes below this one, the server's left out: that one is in a group of its own."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "resource_tracker" not in " ".join(child.cmdline()) and os.getpgid(child.pid) == os.getpgrp()
    ]


@pytest.fixture(params=["scripted", pytest.param("vllm", marks=REAL), pytest.param("server", marks=REAL)])
async def mortal(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Case, Callable[[], None]]]:
    """An engine and what kills it."""
    if request.param == "scripted":
        scripted = scripted_engine(die_after=PLACES + 1)
        await scripted.start()
        yield scripted_case(scripted), lambda: None
        return
    case = await _start(request, "vllm" if request.param == "vllm" else "completions")
    yield case, _kill_core if request.param == "vllm" else request.getfixturevalue("server").kill
    await case.engine.close()
    assert request.param != "vllm" or not _engine_processes()


def _kill_core() -> None:
    here = os.getpid()
    (core,) = [process for process in _engine_processes() if process.ppid() == here]
    core.kill()


async def test_a_death_fails_what_is_in_flight_and_what_comes_later(
    mortal: tuple[Case, Callable[[], None]],
) -> None:
    case, kill = mortal
    prompt, request = asked(case, max_tokens=450, extra=ENDLESS)
    tasks = [asyncio.ensure_future(case.engine.generate(prompt, request)) for _ in range(PLACES + 1)]
    await until(_busy(case.engine))
    kill()
    async with asyncio.timeout(30):
        later, asked_later = case.engine.generate(prompt, request), case.engine.weigh(prompt, (5,))
        ends = await asyncio.gather(*tasks, later, asked_later, return_exceptions=True)
    assert all(isinstance(end, EngineError | Generation) for end in ends)
    assert all(isinstance(end, EngineError) for end in ends[-2:])
    assert any(isinstance(end, EngineError) for end in ends[:-2])


PARENT = """
import asyncio, sys
from pathlib import Path
import psutil
from tests.contract.engine_cases import vllm_engine

async def main():
    engine = vllm_engine(Path(sys.argv[1]))
    await engine.start()
    found = [child for child in psutil.Process().children(recursive=True)
             if "resource_tracker" not in " ".join(child.cmdline())]
    print(*(child.pid for child in found), flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


@REAL
def test_no_engine_process_outlives_a_parent_that_was_killed(model: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    (tmp_path / "parent.py").write_text(PARENT)
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, str(tmp_path / "parent.py"), str(model)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root)},
        ) as parent,
    ):
        assert parent.stdout is not None
        children = [psutil.Process(int(word)) for word in parent.stdout.readline().split()]
        assert len(children) >= 2, (tmp_path / "log").read_text()[-3000:]
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=15)
    assert not alive


class Loading(vllm.VllmEngine):
    """Takes its time to load, and loads nothing."""

    def __init__(self, model: Path) -> None:
        super().__init__(str(model), {})
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.shut_down = threading.Event()

    def _set_environment(self) -> None:
        pass

    def _build(self) -> Any:
        self.began.set()
        self.may_end.wait(10)
        return object()

    def _shut_down(self, llm: Any) -> None:
        self.shut_down.set()


@pytest.mark.parametrize("by", ["close", "cancel"])
async def test_an_engine_that_is_given_up_while_it_starts_is_shut_down(model: Path, by: str) -> None:
    engine = Loading(model)
    start = asyncio.ensure_future(engine.start())
    assert await asyncio.to_thread(engine.began.wait, 10)
    if by == "close":
        await engine.close()
        engine.may_end.set()
    else:
        start.cancel()
    with pytest.raises(EngineDead if by == "close" else asyncio.CancelledError):
        await start
    engine.may_end.set()
    assert await asyncio.to_thread(engine.shut_down.wait, 10)
    with pytest.raises(EngineDead):
        await engine.generate(Prompt((), (1,)), Request(Sampling()))


# --- a model that is none is refused before anything heavy is loaded


def test_a_model_folder_is_recognised(model: Path) -> None:
    vllm.check_model(str(model))
    vllm.check_model("Qwen/Qwen3-8B")
    vllm.check_model("gpt2")


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
    ],
)
def test_an_incomplete_model_folder_is_refused(tmp_path: Path, leave_out: str, message: str) -> None:
    for name in {"config.json", "model.safetensors", "tokenizer.json"} - {leave_out}:
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=message):
        vllm.VllmEngine(str(tmp_path), {})


def test_a_tokenizer_elsewhere_is_fine(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    vllm.VllmEngine(str(tmp_path), {"tokenizer": "gpt2"})


@pytest.mark.parametrize("name", ["/nowhere/model", "./student", "pipelines/teachers/nobody", "bad name"])
def test_a_folder_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no model folder"):
        vllm.check_model(name)


def test_keys_with_a_place_of_their_own_are_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="'model'"):
        vllm.VllmEngine(str(model), {"model": "other"})
    with pytest.raises(ConfigError, match="VLLM_WORKER_MULTIPROC_METHOD"):
        vllm.VllmEngine(str(model), {}, {"VLLM_WORKER_MULTIPROC_METHOD": "fork"})
