"""A sandbox for verifiers, which are called from threads and want to wait: the sandbox's own loop runs in a thread.

It is started when it is first asked for, and its processes end with this one at the latest. What the sandbox cannot do
is a VerifierError, which becomes UNKNOWN; so does a run in trouble, by `decided`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from factory.errors import VerifierError
from sandboxes.base import (
    Call,
    CallsResult,
    Ending,
    JudgedResult,
    Language,
    Limits,
    Program,
    RunResult,
    Sandbox,
    SandboxError,
)
from sandboxes.choose import choose
from sandboxes.pool import Options

T = TypeVar("T")


class Jail:
    """One sandbox, asked from any thread; each call waits for its result."""

    def __init__(
        self,
        *,
        backend: str = "auto",
        language: Language = Language.PYTHON,
        options: Options | None = None,
        unsafe: bool = False,
        url: str = "",
        token_variable: str | None = None,
    ) -> None:
        """What `sandboxes.choose.choose` takes."""
        self._choose = partial(
            choose, backend, language, options=options, unsafe=unsafe, url=url, token_variable=token_variable
        )
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sandbox: asyncio.Future[Sandbox] | None = None

    def run(self, program: Program, limits: Limits) -> RunResult:
        return self._wait(lambda sandbox: sandbox.run(program, limits))

    def call(self, program: Program, function: str, calls: Sequence[Call], limits: Limits) -> CallsResult:
        return self._wait(lambda sandbox: sandbox.call(program, function, calls, limits))

    def judge(
        self,
        program: Program,
        tests: str,
        entry_points: Sequence[str],
        limits: Limits,
        *,
        in_place: bool = False,
        pytest_module: str | None = None,
    ) -> JudgedResult:
        return self._wait(
            lambda sandbox: sandbox.judge(
                program, tests, entry_points, limits, in_place=in_place, pytest_module=pytest_module
            )
        )

    def close(self) -> None:
        """End its processes and its thread. It starts anew where it is asked again."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    def _wait(self, ask: Callable[[Sandbox], Awaitable[T]]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(self._ask(ask), self._running()).result()
        except SandboxError as error:
            raise VerifierError(str(error)) from None

    async def _ask(self, ask: Callable[[Sandbox], Awaitable[T]]) -> T:
        if self._sandbox is None:
            self._sandbox = asyncio.ensure_future(self._start())
        try:
            sandbox = await asyncio.shield(self._sandbox)
        except SandboxError:
            self._sandbox = None  # the next one tries again
            raise
        return await ask(sandbox)

    async def _start(self) -> Sandbox:
        return (await self._choose()).sandbox

    async def _end(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await (await sandbox).close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_serve, args=(self._loop,), name="jail", daemon=True).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def decided(result: RunResult) -> RunResult:
    """The result, if it says anything about the program. Raises VerifierError where the sandbox had trouble."""
    if result.ending is Ending.TROUBLE:
        raise VerifierError(f"the sandbox had trouble: {result.detail}", passing=True)
    return result
