"""The contract of a sandbox: what is run, under which limits, how it ended, and how isolated it was.

Three ways to ask. `run` gives a program its standard input and returns its output. `call` calls a function of the
program with plain data and returns plain data. `judge` runs tests in a jail of their own against a program in another.
No expected answer is an argument of `run` or `call`: what the program must not know never enters its process.

`Ending.TROUBLE` is the sandbox's own failure, and says nothing about the program; every other ending is the program's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

MIB = 1024**2
GIB = 1024**3


class SandboxError(Exception):
    """A sandbox that cannot be had, or cannot do what is asked; the message is one line that says what to do."""


class Language(StrEnum):
    """What a program is written in."""

    PYTHON = "python"
    CPP = "cpp"
    JAVASCRIPT = "javascript"


class Ending(StrEnum):
    """How a run ended."""

    EXITED = "exited"
    """By itself; `exit_code` says how."""
    SIGNALED = "signaled"
    """By a signal that it brought upon itself, such as a segmentation fault; `signal` says which."""
    CPU_LIMIT = "cpu_limit"
    """It used all the processor time that it had."""
    WALL_LIMIT = "wall_limit"
    """It was still there when its time was over, without having used its processor time: it slept, or waited."""
    MEMORY_LIMIT = "memory_limit"
    """It was killed because it took more memory than it had. (A program that is refused memory may end otherwise.)"""
    OUTPUT_LIMIT = "output_limit"
    """It wrote more than it may; what it wrote up to there is kept."""
    BUILD_FAILED = "build_failed"
    """It did not compile; standard error says why."""
    TROUBLE = "trouble"
    """The sandbox failed, not the program; `detail` says how. Never a verdict."""


class Level(StrEnum):
    """How strong the walls are, strongest first."""

    JAIL = "jail"
    """Namespaces of its own with a minimal root, seccomp, no capabilities."""
    FILTER = "filter"
    """The host's namespaces behind Landlock and seccomp: no file, socket or process of the host can be touched, but the
    names and sizes of files can be learned."""
    REMOTE = "remote"
    """Another machine's; what that promises is its own matter."""
    NONE = "none"
    """None at all: a program can do whatever the user can."""


class Memory(StrEnum):
    """How the limit on memory is held."""

    CGROUP = "cgroup"
    """By the kernel, over all processes of the run together."""
    WATCHED = "watched"
    """By the kernel for each process, and for their sum by looking every few hundredths of a second."""
    REMOTE = "remote"
    """By the remote service."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What stood between a run and the machine; recorded on every result."""

    backend: str
    level: Level
    memory: Memory

    def __str__(self) -> str:
        return f"{self.backend} ({self.level}, memory {self.memory})"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use. Each is held for the run as a whole, but for the processor time, which each of its processes
    has for itself."""

    cpu_seconds: float = 10.0
    """Processor time of a process."""
    wall_seconds: float = 30.0
    """A machine may be busy, so this is a net under `cpu_seconds`, and not the limit that is meant to decide."""
    memory_bytes: int = 512 * MIB
    """Beyond what an idle interpreter takes."""
    processes: int = 32
    """Processes and threads, the first one included."""
    output_bytes: int = 1 * MIB
    """Of standard output and of standard error, each; also of what a called function returns."""
    file_bytes: int = 64 * MIB
    """Of all files that it writes."""
    files: int = 1000
    """Files and folders that it makes."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise SandboxError(f"limits: {name} is {getattr(self, name)}; it must be above zero")
        if self.file_bytes + 3 * self.output_bytes > self.memory_bytes:
            raise SandboxError(
                "limits: files and output are held in memory, so file_bytes and three times output_bytes must be "
                "within memory_bytes"
            )


@dataclass(frozen=True, slots=True)
class Program:
    """What a model wrote, and what it may read."""

    source: str
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Put into its working folder before it starts, by relative name; no name has folders in it."""
    language: Language = Language.PYTHON

    def __post_init__(self) -> None:
        for name in self.files:
            if not name or "/" in name or "\0" in name or name in {".", ".."}:
                raise SandboxError(f"files: {name!r} is no plain file name")


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of one call: plain data (None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset,
    dict)."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, and what it left."""

    ending: Ending
    isolation: Isolation
    exit_code: int | None = None
    """Of a run that exited."""
    signal: int | None = None
    """Of a run that a signal ended."""
    stdout: bytes = b""
    """As written, which need not be text; at most `Limits.output_bytes`."""
    stderr: bytes = b""
    detail: str = ""
    """In one line, what a limit or trouble was about."""
    cpu_seconds: float = 0.0
    """Of the first process and those that it waited for."""
    wall_seconds: float = 0.0
    attempts: int = 1
    """2 if it was over its time on a busy machine, and was run once more, alone; tries of a remote service."""

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0. No verdict: a program says so by itself."""
        return self.ending is Ending.EXITED and self.exit_code == 0


@dataclass(frozen=True, slots=True)
class Returned:
    """What became of one call."""

    value: Any = None
    """Plain data, of exactly the types that the function returned."""
    error: str | None = None
    """The name of the exception that it raised, and its message; or why the value is not plain data."""
    missing: bool = False
    """The run ended before the call did."""


@dataclass(frozen=True, slots=True)
class CallsResult:
    """What became of the calls: always as many as were asked for, in order."""

    run: RunResult
    returned: tuple[Returned, ...]


class JudgedOutcome(StrEnum):
    """What tests said."""

    PASSED = "passed"
    FAILED = "failed"
    """A test failed, or called something that the program does not have, or got no answer from it."""
    UNJUDGED = "unjudged"
    """The tests could not be run: they are no program, hit a limit, or wanted to pass what cannot cross; or the sandbox
    had trouble. Says nothing about the program."""


class JudgedTestOutcome(StrEnum):
    """What became of one test of pytest's."""

    PASSED = "passed"
    FAILED = "failed"
    """By what the program did, or did not."""
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    """Its author expects it to fail; whether it did is no matter."""
    BROKEN = "broken"
    """It failed without a call of the program, gave up after one, or wanted to pass what cannot cross. Says nothing
    about the program."""


@dataclass(frozen=True, slots=True)
class JudgedTest:
    """One test of pytest's."""

    name: str
    """Within its module, with its class and parameters: `TestSum::test_empty[0]`."""
    outcome: JudgedTestOutcome
    detail: str
    """Why, in one line; empty where it passed."""


@dataclass(frozen=True, slots=True)
class JudgedResult:
    """What tests said of a program, and how both of them ended."""

    outcome: JudgedOutcome
    detail: str
    """The test's own error, in one line; empty where it passed."""
    calls: int
    """How often the tests called the program and were answered. A pass without a call is vacuous."""
    candidate: RunResult
    tests: RunResult
    each: tuple[JudgedTest, ...] = ()
    """Of pytest's, in the order in which they ran."""


class Sandbox(Protocol):
    """Runs programs. Safe to use from many tasks at once: what does not fit waits."""

    @property
    def isolation(self) -> Isolation:
        """What every result will say."""
        ...

    @property
    def languages(self) -> frozenset[Language]:
        """What `run` understands. `call` and `judge` are for Python."""
        ...

    async def run(self, program: Program, limits: Limits = ...) -> RunResult:
        """Run a program to its end. Raises SandboxError for what the backend cannot do, never for what the program
        did."""
        ...

    async def call(self, program: Program, function: str, calls: Sequence[Call], limits: Limits = ...) -> CallsResult:
        """Load a program and call one of its functions, one call after the other (*values mode*)."""
        ...

    async def judge(
        self,
        program: Program,
        tests: str,
        entry_points: Sequence[str],
        limits: Limits = ...,
        *,
        in_place: bool = False,
        pytest_module: str | None = None,
    ) -> JudgedResult:
        """Run tests in a jail of their own (*judge mode*). The names in `entry_points` are, in the tests, functions
        that call the program in its jail; no other name of the program exists there.

        `pytest_module`: the tests are a module that pytest runs, and import those functions from a module of this
        name. None for tests that are a program, which have the functions as they are.

        `in_place`: lists, dicts and sets that a function changes are changed in the tests too. Only for tests that look
        at them: a program may otherwise spoil what it is compared with."""
        ...

    async def close(self) -> None:
        """End every process. A closed sandbox runs nothing."""
        ...
