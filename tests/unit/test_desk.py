"""Engines asked from threads: each gets its own reply, nothing starts unasked, and nobody waits for a closed engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from factory.engines.base import Engine, Prompt, Request
from factory.engines.desk import Desk, at
from factory.engines.scripted import Reply, ScriptedEngine
from factory.errors import EngineDead, EngineError
from factory.render import PlainRenderer
from factory.types import Message, Sampling
from tests.killing import until

SAMPLING = Sampling(max_tokens=64)
NEVER = 10**9
"""Event-loop turns: longer than any test."""


def echo(prompt: Prompt, _: Request) -> Reply:
    return Reply(f"you said {prompt.messages[-1].content}", turns=3)


def desk(
    script: Callable[[Prompt, Request], Reply] = echo, max_running: int = 256
) -> tuple[Desk, list[ScriptedEngine]]:
    made: list[ScriptedEngine] = []

    def make() -> tuple[ScriptedEngine, Callable[..., Prompt]]:
        made.append(ScriptedEngine(script, max_running=max_running))
        return made[-1], PlainRenderer().render

    return Desk("judge", make), made


def says(one: Desk, text: str) -> str:
    return one.ask((Message("user", text),), SAMPLING, "key").text


def test_nothing_starts_before_it_is_asked() -> None:
    one, made = desk()
    assert made == []
    one.close()
    assert made == []
    with pytest.raises(EngineDead, match=r"\[engines.judge\] is closed"):
        says(one, "hello")


def test_each_of_many_threads_gets_its_own_reply_from_one_engine() -> None:
    one, made = desk(max_running=5)
    with ThreadPoolExecutor(32) as threads:
        found = list(threads.map(lambda number: says(one, str(number)), range(200)))
    assert found == [f"you said {number}" for number in range(200)]
    assert len(made) == 1
    one.close()
    one.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "judge"]


def test_the_engine_bounds_what_runs_at_once() -> None:
    seen: list[int] = []

    def script(*_: object) -> Reply:
        seen.append(made[0].stats.running)
        return Reply("x", turns=20)

    one, made = desk(script, max_running=3)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: says(one, str(number)), range(60)))
    assert max(seen) == 3
    one.close()


def test_who_waits_for_a_closed_engine_is_told() -> None:
    one, made = desk(lambda *_: Reply("late", turns=NEVER))
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(says, one, "hello") for _ in range(4)]
        until(lambda: made and made[0].stats.running == 4, 30, "four questions at the engine")
        one.close()
        for each in waiting:
            with pytest.raises(EngineDead):
                each.result(timeout=30)


def test_a_failed_request_is_its_askers_alone() -> None:
    one, _ = desk(lambda prompt, _: Reply("fine", error="no" if prompt.messages[-1].content == "bad" else None))
    with pytest.raises(EngineError, match="no"):
        says(one, "bad")
    assert says(one, "good") == "fine"
    one.close()


def test_work_of_many_requests_is_done_on_the_engines_loop() -> None:
    one, made = desk()

    async def work(engine: Engine) -> list[str]:
        ask = PlainRenderer().render((Message("user", "hello"),))
        return [
            told.text for told in await asyncio.gather(*(engine.generate(ask, Request(SAMPLING)) for _ in range(9)))
        ]

    assert one.run(work) == ["you said hello"] * 9
    assert says(one, "too") == "you said too"
    assert len(made) == 1
    one.close()
    with pytest.raises(EngineDead):
        one.run(work)


def test_who_waits_for_work_with_a_closed_engine_is_told() -> None:
    one, made = desk(lambda *_: Reply("late", turns=NEVER))

    async def work(engine: Engine) -> str:
        return (await engine.generate(PlainRenderer().render((Message("user", "?"),)), Request(SAMPLING))).text

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(one.run, work)
        until(lambda: made and made[0].stats.running == 1, 30, "the question at the engine")
        one.close()
        with pytest.raises(EngineDead):
            waiting.result(timeout=30)


async def test_an_engine_of_another_loop_answers_threads() -> None:
    engine = ScriptedEngine(echo)
    await engine.start()
    ask = at(asyncio.get_running_loop(), engine, PlainRenderer().render)
    reply = await asyncio.to_thread(ask, (Message("user", "hello"),), SAMPLING, "key")
    assert reply.text == "you said hello"
    assert [request.key for _, request in engine.requests] == ["key"]
    await engine.close()
    with pytest.raises(EngineDead):
        await asyncio.to_thread(ask, (Message("user", "hello"),), SAMPLING, "key")
