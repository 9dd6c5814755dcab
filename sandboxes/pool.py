"""A sandbox whose programs run on this machine: the worker's side of the broker.

Any number of tasks may ask at once; as many runs as there are slots are under way, as many again wait in the broker,
and the rest wait here. A broker that dies takes its runs with it: they end in trouble, and the next one starts a new
broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sandboxes import bubblewrap, frames, plain, streams
from sandboxes.base import (
    Call,
    CallsResult,
    Ending,
    Isolation,
    JudgedOutcome,
    JudgedResult,
    JudgedTest,
    JudgedTestOutcome,
    Language,
    Level,
    Limits,
    Memory,
    Program,
    Returned,
    RunResult,
    SandboxError,
)
from sandboxes.child import LENGTH
from sandboxes.places import ROLES, USERS
from sandboxes.servers import ROOT

LEVELS = {"zygote": Level.JAIL, "bubblewrap": Level.JAIL, "landlock": Level.FILTER, "none": Level.NONE}
"""The backends of this machine, and how strong each is."""
MODULES = (
    *("bisect", "collections", "copy", "functools", "heapq", "itertools", "json", "math", "operator", "random", "re"),
    *("string", "struct", "time", "typing"),
)
"""Loaded before any program comes, because many programs want them. The rest of the library is there as well, and left
out because what is loaded costs every run: `dataclasses` 300 pages of memory, 0.1 ms; `hashlib` half of it."""
_START = "import sys; sys.path.insert(0, sys.argv.pop()); from sandboxes.broker import main; main()"
_DEFAULT = Limits()
MOST_SLOTS = USERS // len(ROLES)
"""Of one broker."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a pool is set up."""

    slots: int = 0
    """Programs that run at once; 0 for as many as there are cores."""
    modules: tuple[str, ...] = MODULES
    paths: tuple[str, ...] = ()
    """Folders of packages that programs may import from, such as an environment's `site-packages`."""

    def __post_init__(self) -> None:
        if not 0 <= self.slots <= MOST_SLOTS:
            raise SandboxError(f"slots is {self.slots}; it must be from 0 to {MOST_SLOTS}")

    @property
    def count(self) -> int:
        return self.slots or min(MOST_SLOTS, len(os.sched_getaffinity(0)))


class _Died(Exception):
    """The broker has ended; what it ran is lost."""


class Pool:
    """The `Sandbox` of this machine, with one backend."""

    def __init__(self, backend: str, options: Options) -> None:
        self.backend = backend
        self.languages = frozenset(bubblewrap.tools() if backend == "bubblewrap" else {Language.PYTHON})
        self._options = options
        self._memory = Memory.WATCHED
        self._connection: _Connection | None = None
        self._starting = asyncio.Lock()
        self._places = _Places(2 * options.count)
        self._closed = False

    async def start(self) -> None:
        """Start the broker and try a program in every slot. Raises SandboxError, with the reason, where that fails."""
        await self._connect()

    @property
    def isolation(self) -> Isolation:
        return Isolation(self.backend, LEVELS[self.backend], self._memory)

    async def _connect(self) -> _Connection:
        async with self._starting:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            if self._connection is None or self._connection.ended:
                if self._connection is not None:
                    await self._connection.close()
                settings = {
                    "backend": self.backend,
                    "slots": self._options.count,
                    "modules": list(self._options.modules),
                    "paths": list(self._options.paths),
                    "pytest": _folder_of_pytest(),
                }
                self._connection, hello = await _Connection.open(settings)
                self._memory = Memory(hello["memory"])
            return self._connection

    async def run(self, program: Program, limits: Limits = _DEFAULT) -> RunResult:
        header, blobs = self._work(program, limits)
        (result,), _ = await self._ask({"do": "run", "work": header}, [program.stdin, *blobs], limits)
        return result

    async def call(
        self, program: Program, function: str, calls: Sequence[Call], limits: Limits = _DEFAULT
    ) -> CallsResult:
        header, blobs = self._work(program, limits, function_of="call")
        header |= {"function": function, "longest": limits.output_bytes}
        asked = _encode(calls)
        (result,), (records,) = await self._ask({"do": "calls", "work": header}, [program.stdin, *blobs, asked], limits)
        return CallsResult(result, read_returned(records, len(calls)))

    async def judge(
        self,
        program: Program,
        tests: str,
        entry_points: Sequence[str],
        limits: Limits = _DEFAULT,
        *,
        in_place: bool = False,
        pytest_module: str | None = None,
    ) -> JudgedResult:
        header, blobs = self._work(program, limits, function_of="judge")
        common = {"longest": limits.output_bytes, "in_place": in_place}
        tests_header: dict[str, Any] = {"files": [], "entry_points": list(entry_points)} | common
        if pytest_module is not None:
            if not _folder_of_pytest():
                raise SandboxError("pytest is not installed beside this program: pip install pytest")
            tests_header["module"] = pytest_module
        request = {"do": "judge", "work": header | common, "tests": tests_header}
        (candidate, judge), (_, verdict) = await self._ask(request, [_text(tests), *blobs], limits)
        return read_judged(candidate, judge, verdict)

    def _work(self, program: Program, limits: Limits, function_of: str = "") -> tuple[dict[str, Any], list[bytes]]:
        """A program for the broker, if this backend can run it."""
        if function_of and self.backend == "bubblewrap":
            raise SandboxError(
                f"bubblewrap runs whole programs only: {function_of} needs the backend zygote or landlock"
            )
        if program.language not in self.languages:
            can = ", ".join(sorted(self.languages))
            raise SandboxError(f"backend {self.backend} runs {can} here, not {program.language}")
        if len(program.files) > limits.files or sum(map(len, program.files.values())) > limits.file_bytes:
            raise SandboxError("files: the program is given more than its limits allow")
        header = {"files": list(program.files), "language": program.language}
        return header, [_text(program.source), *program.files.values()]

    async def _ask(
        self, request: dict[str, Any], blobs: list[bytes], limits: Limits
    ) -> tuple[list[RunResult], list[bytes]]:
        """The results of the processes that a request takes, and what they wrote in private. One that was over its time
        because the machine was busy is tried once more, alone."""
        request = request | {"limits": _fields(limits)}
        async with self._places.one():
            runs, results = await self._try(request, blobs)
        if any(run["starved"] for run in runs):
            async with self._places.all():
                runs, results = await self._try(request, blobs)
            return [replace(self._result(*run), attempts=2) for run in _with_output(runs, results)], results[2::3]
        return [self._result(*run) for run in _with_output(runs, results)], results[2::3]

    async def _try(self, request: dict[str, Any], blobs: list[bytes]) -> tuple[list[dict[str, Any]], list[bytes]]:
        connection = await self._connect()
        try:
            return await connection.ask(request, blobs)
        except _Died:
            number = 2 if request["do"] == "judge" else 1
            trouble = {"ending": Ending.TROUBLE, "detail": "the broker died", "starved": False}
            return [trouble] * number, [b""] * 3 * number

    def _result(self, run: dict[str, Any], stdout: bytes, stderr: bytes) -> RunResult:
        return RunResult(
            ending=Ending(run["ending"]),
            isolation=self.isolation,
            exit_code=run.get("code"),
            signal=run.get("signal"),
            stdout=stdout,
            stderr=stderr,
            detail=run["detail"],
            cpu_seconds=run.get("cpu", 0.0),
            wall_seconds=run.get("wall", 0.0),
        )

    async def close(self) -> None:
        async with self._starting:
            self._closed = True
            if self._connection is not None:
                await self._connection.close()
                self._connection = None


@functools.cache
def _folder_of_pytest() -> str:
    """Where programs' tests import it from; found without importing it. Empty where it is not installed."""
    found = importlib.util.find_spec("pytest")
    return str(Path(found.origin).resolve().parents[1]) if found is not None and found.origin else ""


def _with_output(runs: list[dict[str, Any]], texts: list[bytes]) -> list[tuple[dict[str, Any], bytes, bytes]]:
    return list(zip(runs, texts[0::3], texts[1::3], strict=True))


@functools.lru_cache(64)
def _fields(limits: Limits) -> dict[str, Any]:
    return asdict(limits)


def _text(source: str) -> bytes:
    return source.encode("utf-8", "surrogatepass")


def _encode(calls: Sequence[Call]) -> bytes:
    try:
        return plain.encode([(call.args, dict(call.kwargs)) for call in calls])
    except plain.NotPlain as error:
        raise SandboxError(f"arguments: {error}") from None


def read_returned(records: bytes, number: int) -> tuple[Returned, ...]:
    """What became of each call, from what a program wrote, which may be anything."""
    found: list[Returned] = []
    start = 0
    while len(found) < number and len(records) >= start + LENGTH.size:
        begin = start + LENGTH.size
        start = begin + LENGTH.unpack_from(records, start)[0]
        if start > len(records):
            break
        found.append(_returned(records[begin:start]))
    return tuple(found) + (Returned(missing=True),) * (number - len(found))


def _returned(record: bytes) -> Returned:
    try:
        match plain.decode(record):
            case (0, value):
                return Returned(value)
            case (1, str(kind), str(message)):
                return Returned(error=f"{kind}: {message}")
    except plain.NotPlain as error:
        return Returned(error=str(error))
    return Returned(error="the program wrote no result")


def read_judged(candidate: RunResult, tests: RunResult, verdict: bytes) -> JudgedResult:
    """What the tests said: only their own word, and only if they ended as they should."""
    if Ending.TROUBLE in {candidate.ending, tests.ending}:
        trouble = candidate if candidate.ending is Ending.TROUBLE else tests
        return JudgedResult(JudgedOutcome.UNJUDGED, trouble.detail, 0, candidate, tests)
    if not tests.ok:
        return JudgedResult(JudgedOutcome.UNJUDGED, f"the tests ended by {tests.ending}", 0, candidate, tests)
    match _said(verdict):
        case (bool(passed), str(detail), int(calls), None, list(told)) if (each := _each(told)) is not None:
            outcome = JudgedOutcome.PASSED if passed else JudgedOutcome.FAILED
            return JudgedResult(outcome, detail, calls, candidate, tests, each)
        case (bool(), str(), int(calls), str(unjudged), list(told)) if (each := _each(told)) is not None:
            return JudgedResult(JudgedOutcome.UNJUDGED, unjudged, calls, candidate, tests, each)
    return JudgedResult(JudgedOutcome.UNJUDGED, "the tests ended without a verdict", 0, candidate, tests)


def _each(told: list[Any]) -> tuple[JudgedTest, ...] | None:
    """None where it tells of something else than tests: they may write what they like."""
    found = []
    for one in told:
        match one:
            case (str(name), str(outcome), str(detail)) if outcome in set(JudgedTestOutcome):
                found.append(JudgedTest(name, JudgedTestOutcome(outcome), detail))
            case _:
                return None
    return tuple(found)


def _said(verdict: bytes) -> Any:
    """None where it is no plain data."""
    try:
        return plain.decode(verdict)
    except plain.NotPlain:
        return None


class _Places:
    """Room for so many at once, or for one alone."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._free = asyncio.Semaphore(number)
        self._taking_all = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        async with self._free:
            yield

    @contextlib.asynccontextmanager
    async def all(self) -> AsyncIterator[None]:
        taken = 0
        async with self._taking_all:
            try:
                for _ in range(self._number):
                    await self._free.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._free.release()


class _Connection:
    """One broker, alive or dead."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[frames.Frame]] = {}
        self.ended = False
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: dict[str, Any]) -> tuple[_Connection, dict[str, Any]]:
        """A broker that is ready, and what it said of itself. Raises SandboxError where it cannot be had."""
        ours, theirs = socket.socketpair()
        with theirs:
            base = getattr(sys, "_base_executable", sys.executable)
            program = [base, "-I", "-S", "-c", _START, json.dumps(settings), ROOT]
            environment = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
            process = subprocess.Popen(program, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment)
        reader, writer = await asyncio.open_connection(sock=ours)
        connection = cls(process, reader, writer)
        hello = await streams.read(reader)
        if hello is None or "refused" in hello[0]:
            await connection.close()
            raise SandboxError(hello[0]["refused"] if hello else "its broker ended before it was ready")
        connection._task = asyncio.create_task(connection._listen())
        return connection, hello[0]

    async def _listen(self) -> None:
        while (frame := await streams.read(self._reader)) is not None:
            waiting = self._waiting.pop(frame[0]["id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(frame)
        self.ended = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_Died())
        self._waiting.clear()

    async def ask(self, request: dict[str, Any], blobs: list[bytes]) -> tuple[list[dict[str, Any]], list[bytes]]:
        """Raises _Died."""
        if self.ended:
            raise _Died
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(frames.pack(request | {"id": number}, blobs))
        try:
            await self._writer.drain()
        except ConnectionError:
            pass  # `_listen` hears of it as well, and says so to everyone who waits
        header, texts = await waiting
        return header["runs"], texts

    async def close(self) -> None:
        """Let it end its runs, and wait until it has; kill it if it does not."""
        self._writer.close()
        try:
            await asyncio.to_thread(self._process.wait, 10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        if self._task is not None:
            await self._task
