"""A sandbox that is a service: programs go over HTTP to one that speaks SandboxFusion's `run_code`.

Only programs: nothing but output and an exit status comes back, so there is no `call` and no `judge`. What is no reply
of the protocol is trouble and never a verdict. Nothing but the given address is contacted.

The service is given the time limit only. `cpu_seconds`, `processes`, `files` and `file_bytes` have no place in its
protocol; memory has one, but what the service makes of it (a bound on address space, data and stacks alike, or nothing
where it isolates by itself) keeps Node from starting and Python from starting threads or importing numpy, and a right
program must not be taken for a wrong one. What else the protocol leaves open:

- Output that is not UTF-8 does not cross: such a run is trouble.
- SIGKILL may be the program's doing, or a machine's that was out of memory; the service does not say.
- Time runs on the service's clock, and on a busy service a program may be over its time without having had it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import random
import ssl
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sandboxes.base import (
    MIB,
    Call,
    CallsResult,
    Ending,
    Isolation,
    JudgedResult,
    Language,
    Level,
    Limits,
    Memory,
    Program,
    RunResult,
    SandboxError,
)

ISOLATION = Isolation("remote", Level.REMOTE, Memory.REMOTE)
NAMES = {Language.PYTHON: "python", Language.CPP: "cpp", Language.JAVASCRIPT: "nodejs"}
BUILD_SECONDS = 30.0
"""For the compiler. Ours, as no limit of a program is about it."""
GRACE_SECONDS = 30.0
"""For the way there and back, and the service's own queue."""
TRIES = 3
WAIT_SECONDS = 0.5
"""Before the second try, about; twice that before the third."""
SERVICE_OUTPUT = 1 * MIB
"""The service keeps this much of each stream and does not say that there was more."""
UNDECODABLE = b"[DecodeError] "
"""How the service begins what it says in place of output that is not UTF-8."""
BUSY = frozenset({429, 502, 503, 504})
REFUSAL = (
    "the remote backend runs programs only: what a function returned, or tests said, cannot be told from what the "
    "program printed; use a backend of this machine"
)
_DEFAULT = Limits()


class _Command(BaseModel):
    """How the compiler or the program ended."""

    model_config = ConfigDict(strict=True, frozen=True)

    status: Literal["Finished", "Error", "TimeLimitExceeded"]
    execution_time: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    return_code: int | None = Field(default=None, ge=-64, le=255)
    """Minus the signal, where one ended it."""
    stdout: str | None = None
    stderr: str | None = None

    @model_validator(mode="after")
    def _says_how_it_finished(self) -> _Command:
        if self.status == "Finished" and self.return_code is None:
            raise ValueError("Finished without a return_code")
        return self

    @cached_property
    def output(self) -> tuple[bytes, bytes]:
        return (self.stdout or "").encode(), (self.stderr or "").encode()


class _Reply(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    status: Literal["Success", "Failed", "SandboxError"]
    message: str
    compile_result: _Command | None
    run_result: _Command | None


class _NoReply(Exception):
    """There is no reply, or it is not the protocol's; the message says why, in one line."""

    def __init__(self, why: str, *, passing: bool = False) -> None:
        super().__init__(_line(why))
        self.passing = passing
        """Whether another try may do better."""


class Remote:
    """The `Sandbox` behind an address, with so many requests under way at once."""

    isolation = ISOLATION
    languages = frozenset(NAMES)

    def __init__(self, url: str, *, slots: int = 8, token_variable: str | None = None) -> None:
        """`token_variable`: the environment variable that holds a bearer token; None for a service that wants none."""
        if slots < 1:
            raise SandboxError(f"slots is {slots}; it must be above zero")
        self._url = _checked(url)
        self._places = asyncio.Semaphore(slots)
        self._closed = False
        self._client = httpx.AsyncClient(
            # Unread: a proxy would be one more machine that sees every program, and netrc one more password.
            trust_env=False,
            # The machine's certificates, because a service of one's own has rarely one that the public knows.
            verify=ssl.create_default_context(),
            timeout=httpx.Timeout(None),  # `_post` has one over the whole of a try; these begin anew with every byte
            limits=httpx.Limits(max_connections=slots, max_keepalive_connections=slots),
            headers=_headers(token_variable),
        )

    async def start(self) -> None:
        """Run a first program. Raises SandboxError, with the reason, where that fails."""
        result = await self.run(Program("print('ready')"))
        if not result.ok or result.stdout != b"ready\n":
            reason = result.detail or f"its first program ended by {result.ending}, status {result.exit_code}"
            raise SandboxError(f"no programs run at {self._url.scheme}://{self._url.netloc.decode()}: {reason}")

    async def run(self, program: Program, limits: Limits = _DEFAULT) -> RunResult:
        """`attempts` counts the tries: a run leaves nothing behind, so one that was lost on the way is sent again."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        body = _request(program, limits)
        async with self._places:
            for attempt in itertools.count(1):
                try:
                    return replace(read_reply(await self._post(body, limits), limits), attempts=attempt)
                except _NoReply as failure:
                    if attempt == TRIES or not failure.passing:
                        return RunResult(Ending.TROUBLE, ISOLATION, detail=str(failure), attempts=attempt)
                await asyncio.sleep(WAIT_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("the last try returns")

    async def _post(self, body: bytes, limits: Limits) -> bytes:
        """Raises _NoReply."""
        if self._closed:
            raise _NoReply("the sandbox was closed")
        seconds = BUILD_SECONDS + limits.wall_seconds + GRACE_SECONDS
        try:
            async with asyncio.timeout(seconds), self._client.stream("POST", self._url, content=body) as response:
                if (code := response.status_code) != httpx.codes.OK:
                    raise _NoReply(f"the service answered HTTP {code}", passing=code in BUSY)
                return await _read(response, limits)
        except TimeoutError:
            raise _NoReply(f"the service did not answer within {seconds:g} s") from None
        except httpx.HTTPError as error:
            lost = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
            raise _NoReply(f"the service is out of reach: {str(error) or type(error).__name__}", passing=lost) from None

    async def call(
        self, program: Program, function: str, calls: Sequence[Call], limits: Limits = _DEFAULT
    ) -> CallsResult:
        """Refused: only output and an exit status come back, and what a harness would print to say what a function
        returned, the program in the same process can print as well."""
        raise SandboxError(REFUSAL)

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
        """Refused, as `call` is: a program could print the tests' verdict."""
        raise SandboxError(REFUSAL)

    async def close(self) -> None:
        """Requests that are under way end in trouble; the service ends their programs at their time limit."""
        self._closed = True
        await self._client.aclose()


def _checked(url: str) -> httpx.URL:
    """Where programs are posted. Raises SandboxError, without the address, which may hold a password."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    more = parsed.userinfo or parsed.query or parsed.fragment
    if parsed.scheme not in {"http", "https"} or not parsed.host or more or (parsed.port or 0) > 65535:
        raise SandboxError("url: it must be http or https, then a host and perhaps a path, with no password or query")
    return parsed.copy_with(path=parsed.path.rstrip("/") + "/run_code")


def _headers(token_variable: str | None) -> dict[str, str]:
    # No compression: a few bytes of it can stand for more than memory holds.
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if token_variable is None:
        return headers
    token = os.environ.get(token_variable, "")
    # Checked here, because the layers below put a header that they refuse into their message.
    if not token or not all("!" <= character <= "~" for character in token):
        raise SandboxError(f"token: the environment variable {token_variable} is unset, or is no single word of ASCII")
    return headers | {"Authorization": f"Bearer {token}"}


def _request(program: Program, limits: Limits) -> bytes:
    if len(program.files) > limits.files or sum(map(len, program.files.values())) > limits.file_bytes:
        raise SandboxError("files: the program is given more than its limits allow")
    try:
        stdin = program.stdin.decode()
    except UnicodeDecodeError:
        raise SandboxError("stdin: it is not UTF-8, and the remote backend takes text only") from None
    request = {
        "code": program.source,
        "language": NAMES[program.language],
        "compile_timeout": BUILD_SECONDS,
        "run_timeout": limits.wall_seconds,
        "memory_limit_MB": -1,
        "stdin": stdin,
        "files": {name: base64.b64encode(content).decode() for name, content in program.files.items()},
        "fetch_files": [],
    }
    return json.dumps(request).encode()


async def _read(response: httpx.Response, limits: Limits) -> bytes:
    """The body, unless it is longer than anything that the service can have to say: a byte takes six at most in JSON,
    and there are two streams. A verdict cannot rest on what was not read, so a longer one is trouble."""
    longest = 12 * max(limits.output_bytes, SERVICE_OUTPUT) + MIB
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > longest:
            raise _NoReply(f"the reply is longer than {longest} bytes")
    return bytes(body)


def read_reply(body: bytes, limits: Limits) -> RunResult:
    """What a reply says of a run. Raises _NoReply for what is not the protocol's."""
    try:
        reply = _Reply.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _NoReply(f"the reply is not the protocol's: {'.'.join(map(str, first['loc']))} {first['msg']}") from None
    build, run = reply.compile_result, reply.run_result
    if reply.status == "SandboxError" or any(command and command.status == "Error" for command in (build, run)):
        raise _NoReply(f"the service failed: {reply.message or 'it does not say how'}")
    if build is not None and build.status == "TimeLimitExceeded":
        return _result(build, limits)(Ending.BUILD_FAILED, detail=f"the compiler took more than {BUILD_SECONDS:g} s")
    if build is not None and build.return_code != 0:
        return _result(build, limits)(Ending.BUILD_FAILED)
    if run is None:
        raise _NoReply("the reply is not the protocol's: it says nothing of the run")
    return _ended(run, limits)


def _ended(run: _Command, limits: Limits) -> RunResult:
    result = _result(run, limits)
    lengths = {len(text) for text in run.output}
    # Of exactly what the service keeps, the rest may have been cut off.
    if max(lengths) > limits.output_bytes or SERVICE_OUTPUT in lengths:
        return result(
            Ending.OUTPUT_LIMIT, detail=f"it wrote more than {min(limits.output_bytes, SERVICE_OUTPUT)} bytes"
        )
    if run.status == "TimeLimitExceeded" or run.return_code is None:
        return result(Ending.WALL_LIMIT, detail=f"it took more than {limits.wall_seconds:g} s")
    if run.output[0].startswith(UNDECODABLE):
        raise _NoReply("the service could not pass on what the program wrote, which is not UTF-8")
    if run.return_code < 0:
        return result(Ending.SIGNALED, signal=-run.return_code)
    return result(Ending.EXITED, exit_code=run.return_code)


def _result(command: _Command, limits: Limits) -> partial[RunResult]:
    stdout, stderr = (text[: limits.output_bytes] for text in command.output)
    seconds = command.execution_time or 0.0
    return partial(RunResult, isolation=ISOLATION, stdout=stdout, stderr=stderr, wall_seconds=seconds)


def _line(text: str) -> str:
    """In one line, and no longer than is read: the service puts whole programs into its messages."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:300] + "..."
