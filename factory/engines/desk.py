"""Engines asked from any thread: verifiers are called from threads and wait for their answer, engines live on loops.

`at` is for an engine that somebody else runs, on a loop of another thread. A `Desk` runs one of its own: it is started
on a thread of its own when it is first asked, so that one that nobody asks costs nothing, and ends with `close`. How
many requests run at once is the engine's matter.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from factory.engines.base import Engine, EngineStats, Prompt, Request
from factory.errors import ConfigError, EngineDead, EngineRefused
from factory.types import Generation, Message, Sampling

log = logging.getLogger(__name__)

T = TypeVar("T")
Render = Callable[[Sequence[Message]], Prompt]
Ask = Callable[[tuple[Message, ...], Sampling, str], Generation]
"""Puts messages to a model and waits for its reply; the text names the request. Raises EngineError or EngineDead."""


def at(loop: asyncio.AbstractEventLoop, engine: Engine, render: Render) -> Ask:
    """Ask an engine that runs on `loop`, from other threads than the loop's own."""

    def ask(messages: tuple[Message, ...], sampling: Sampling, key: str) -> Generation:
        return _wait(loop, engine.generate(render(messages), Request(sampling, key=key)))

    return ask


def _wait(loop: asyncio.AbstractEventLoop, answer: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run_coroutine_threadsafe(answer, loop).result()
    except CancelledError:
        raise EngineDead("the engine was closed while it was asked") from None


class Desk:
    """One engine on a thread of its own."""

    def __init__(self, name: str, make: Callable[[], tuple[Engine, Render]]) -> None:
        """`name`: of the engine, in the recipe. `make`: the engine, not yet started, and what makes its prompts; called
        at the first question."""
        self._name = name
        self._make = make
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._started: asyncio.Future[tuple[Engine, Render]] | None = None
        self._requests = 0

    def ask(self, messages: tuple[Message, ...], sampling: Sampling, key: str) -> Generation:
        """Raises EngineRefused where the engine does not start by the user's mistake, EngineDead where it is closed."""
        return _wait(self._running(), self._answer(messages, sampling, key))

    def run(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """Have `work` done with the engine, on its loop, and wait for it: for who has many requests at once.

        Raises as `ask` does, and what `work` raises.
        """
        return _wait(self._running(), self._worked(work))

    def close(self) -> None:
        """End the engine and the thread; whoever waits is told so. It may be called twice."""
        with self._lock:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    async def _worked(self, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        engine, _ = await self._up()
        return await work(engine)

    async def _up(self) -> tuple[Engine, Render]:
        """The engine, started once."""
        if self._started is None:
            self._started = asyncio.ensure_future(self._start())
        return await asyncio.shield(self._started)

    async def _answer(self, messages: tuple[Message, ...], sampling: Sampling, key: str) -> Generation:
        engine, render = await self._up()
        prompt = await asyncio.to_thread(render, messages)  # a tokenizer may have to be loaded first
        self._requests += 1
        return await engine.generate(prompt, Request(sampling, key=key))

    async def _start(self) -> tuple[Engine, Render]:
        try:
            engine, render = self._make()
            await engine.start()
        except ConfigError as error:
            raise EngineRefused(f"[engines.{self._name}] does not start: {error}") from None
        return engine, render

    async def _end(self) -> None:
        if self._started is not None:
            await asyncio.wait([self._started])
            if self._started.exception() is None:
                engine, _ = self._started.result()
                await engine.close()
                self._tell(engine.stats)
        waiting = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def _tell(self, stats: EngineStats) -> None:
        tokens = f"{stats.prompt_tokens} tokens read, {stats.generated_tokens} generated"
        log.info("[engines.%s] was asked %d times: %s", self._name, self._requests, tokens)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise EngineDead(f"[engines.{self._name}] is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
