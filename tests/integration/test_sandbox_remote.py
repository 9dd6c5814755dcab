"""The remote backend against a service on loopback of its protocol: it runs Python, or says what it is told."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sandboxes import remote
from sandboxes.base import MIB, Call, Ending, Language, Level, Limits, Program, RunResult, Sandbox, SandboxError
from sandboxes.conformance.host import planted
from sandboxes.conformance.suite import cases_for, check
from sandboxes.remote import Remote

QUICK = Limits(wall_seconds=20.0)
TOKEN = "s3cret-token"
FINE = {"status": "Finished", "execution_time": 0.5, "return_code": 0, "stdout": "out", "stderr": ""}
LATE = {"status": "TimeLimitExceeded", "execution_time": 0.5, "return_code": None, "stdout": "out", "stderr": ""}
BAD = FINE | {"return_code": 1, "stderr": "main.cpp: no"}
ERROR = {"status": "Error", "execution_time": None, "return_code": None, "stdout": None, "stderr": "no room"}


class Service:
    """Answers every request by `answer`, which gets its fields and returns a status line's code and a body."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], Awaitable[tuple[int, bytes]]] = execute
        self.requests: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.active = 0
        self.peak = 0
        self.sent = 0
        self.url = ""

    def says(self, *replies: object) -> None:
        """One reply after the other, and the last one ever after: an HTTP status, bytes, or fields of a reply."""
        left = list(replies)

        async def answer(_: dict[str, Any]) -> tuple[int, bytes]:
            reply = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(reply, int):
                return reply, b""
            return 200, reply if isinstance(reply, bytes) else json.dumps(reply).encode()

        self.answer = answer

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(line for line in head.split("\r\n") if line.lower().startswith("content-length"))
            request = json.loads(await reader.readexactly(int(length.split(":")[1])))
            self.heads.append(head)
            self.requests.append(request)
            code, body = await self.answer(request)
            # Counted before the reply is out: from then on, the client may send its next one.
            self.active -= 1
            await self._send(writer, code, body)
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, code: int, body: bytes) -> None:
        if code == 0:  # hangs up without a word
            return
        head = f"HTTP/1.1 {code} Said\r\nLocation: http://127.0.0.1:9/\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        try:
            for start in range(0, len(body), 65536):
                writer.write(body[start : start + 65536])
                await writer.drain()
                self.sent += 65536
        except ConnectionError:
            pass  # the client has read enough


async def execute(request: dict[str, Any]) -> tuple[int, bytes]:
    return 200, json.dumps(await asyncio.to_thread(run_code, request)).encode()


def run_code(request: dict[str, Any]) -> dict[str, Any]:
    """What the service does for Python, as its source has it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in request["files"].items():
            Path(folder, name).write_bytes(base64.b64decode(content))
        main = Path(folder, "main.py")
        main.write_text(request["code"], encoding="utf-8")
        command = [sys.executable, "-I", str(main)]
        given, seconds = request["stdin"].encode(), request["run_timeout"]
        try:
            done = subprocess.run(command, input=given, cwd=folder, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as late:
            return reply(run=LATE | {"stdout": kept(late.stdout), "stderr": kept(late.stderr)})
    ran = FINE | {"return_code": done.returncode, "stdout": kept(done.stdout), "stderr": kept(done.stderr)}
    return reply(run=ran)


def kept(output: bytes | None) -> str:
    try:
        return (output or b"")[:MIB].decode()
    except UnicodeDecodeError as error:
        return f"[DecodeError] {error}"


def reply(build: object = None, run: object = None, status: str = "Success", message: str = "") -> dict[str, Any]:
    results = {"compile_result": build, "run_result": run, "files": {}, "of_a_later_version": 1}
    return {"status": status, "message": message, **results}


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setattr(remote, "WAIT_SECONDS", 0.001)
    service = Service()
    server = await asyncio.start_server(service.handle, "127.0.0.1", 0)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield service
    server.close()
    await server.wait_closed()


@pytest.fixture
async def sandbox(service: Service) -> AsyncIterator[Remote]:
    sandbox = Remote(service.url, slots=2)
    yield sandbox
    await sandbox.close()


async def test_a_program_reads_and_writes(sandbox: Remote) -> None:
    await sandbox.start()
    source = "import sys; print(input(), open('a').read()); print('é', file=sys.stderr)"
    result = await sandbox.run(Program(source, stdin="ü\n".encode(), files={"a": b"file"}), QUICK)
    assert result.ok, result
    assert (result.stdout, result.stderr) == ("ü file\n".encode(), "é\n".encode())
    assert (result.isolation.level, result.attempts, result.detail) == (Level.REMOTE, 1, "")


async def test_a_run_ends_as_its_program_did(sandbox: Remote) -> None:
    left = await sandbox.run(Program("raise SystemExit(3)"), QUICK)
    assert (left.ending, left.exit_code, left.signal) == (Ending.EXITED, 3, None)
    crashed = await sandbox.run(Program(f"import os; os.kill(os.getpid(), {signal.SIGSEGV:d})"), QUICK)
    assert (crashed.ending, crashed.exit_code, crashed.signal) == (Ending.SIGNALED, None, signal.SIGSEGV)
    late = await sandbox.run(Program("while True: pass"), Limits(wall_seconds=0.5))
    assert late.ending is Ending.WALL_LIMIT
    assert "0.5 s" in late.detail


async def test_limits_and_languages_are_sent_as_the_protocol_has_them(service: Service, sandbox: Remote) -> None:
    service.says(reply(run=FINE))
    for language in (Language.PYTHON, Language.CPP, Language.JAVASCRIPT):
        assert language in sandbox.languages
        await sandbox.run(Program("1", language=language), Limits(wall_seconds=7.0))
    assert [sent["language"] for sent in service.requests] == ["python", "cpp", "nodejs"]
    assert [sent["memory_limit_MB"] for sent in service.requests] == [
        -1,
        -1,
        -1,
    ]  # see the module: a limit breaks right programs
    assert {sent["run_timeout"] for sent in service.requests} == {7.0}
    assert {head.split(" ")[1] for head in service.heads} == {"/run_code"}


async def test_output_beyond_the_limit_is_cut(sandbox: Remote) -> None:
    small = Limits(output_bytes=1000)
    result = await sandbox.run(Program("print('x' * 1001)"), small)
    assert (result.ending, result.stdout) == (Ending.OUTPUT_LIMIT, b"x" * 1000)
    assert (await sandbox.run(Program("print('x' * 999)"), small)).ok


async def test_output_that_the_service_cut_is_not_taken_for_all(sandbox: Remote) -> None:
    roomy = Limits(output_bytes=4 * MIB)
    flood = await sandbox.run(Program("print('x' * 3_000_000)"), roomy)
    assert (flood.ending, len(flood.stdout)) == (Ending.OUTPUT_LIMIT, MIB)
    escaped = await sandbox.run(Program("print('\\0' * 1_000_000)"), roomy)
    assert escaped.ok, escaped.detail


async def test_what_is_no_text_is_trouble(service: Service, sandbox: Remote) -> None:
    result = await sandbox.run(Program("import os; os.write(1, b'\\xff')"), QUICK)
    assert result.ending is Ending.TROUBLE
    assert "UTF-8" in result.detail
    service.says(422)
    assert (await sandbox.run(Program("'\ud800'"), QUICK)).ending is Ending.TROUBLE


@pytest.mark.parametrize(
    ("said", "ending", "words"),
    [
        (reply(BAD, status="Failed"), Ending.BUILD_FAILED, ""),
        (reply(BAD | {"return_code": -9}, FINE, "Failed"), Ending.BUILD_FAILED, ""),
        (reply(LATE, status="Failed"), Ending.BUILD_FAILED, "compiler took more than"),
        (reply(FINE, LATE | {"return_code": 0}, "Failed"), Ending.WALL_LIMIT, "it took more than"),
        (reply(ERROR, status="SandboxError", message="no\nroom"), Ending.TROUBLE, "failed: no room"),
        (reply(FINE, ERROR), Ending.TROUBLE, "the service failed"),
        (reply(BAD, ERROR, "Failed"), Ending.TROUBLE, "the service failed"),
        (reply(run=FINE, status="SandboxError", message="word " * 1000), Ending.TROUBLE, "word word"),
        (reply(run=FINE | {"execution_time": None, "stdout": None}), Ending.EXITED, ""),
    ],
)
async def test_replies_mean_what_the_protocol_says(
    service: Service, sandbox: Remote, said: object, ending: Ending, words: str
) -> None:
    service.says(said)
    result = await sandbox.run(Program("int main() {}", language=Language.CPP), QUICK)
    assert result.ending is ending
    assert words in result.detail
    assert is_line(result)
    assert (ending is Ending.BUILD_FAILED and not words) == (result.stderr == b"main.cpp: no")


def is_line(result: RunResult) -> bool:
    return "\n" not in result.detail and len(result.detail) < 400


BROKEN_TEXT = [
    b"",
    b"<html>gateway</html>",
    b"\xff\xfe",
    b"[" * 100_000,
    b"null",
    json.dumps(reply(run=FINE)).encode()[:-1],
]
BROKEN_FIELDS = (
    {"status": "Great"},
    {"message": None},
    {"message": "\ud800"},
    {"compile_result": FINE, "run_result": None},
)
BROKEN_RUN: tuple[dict[str, Any], ...] = (
    *({"status": "finished"}, {"stdout": ["passed"]}, {"execution_time": float("nan")}),
    *({"return_code": code} for code in (None, "0", False, 0.5, 256, 10**30)),
)
BROKEN = [
    *(*BROKEN_TEXT, [], {}, reply(), reply(run=[]), {"status": "Success", "message": "", "run_result": FINE}),
    *(reply(run=FINE) | change for change in BROKEN_FIELDS),
    *(reply(run=FINE | change) for change in BROKEN_RUN),
    *(201, 204, 307, 401, 422, 500),
]


@pytest.mark.parametrize("said", BROKEN)
async def test_what_is_not_the_protocol_is_trouble_at_once(service: Service, sandbox: Remote, said: object) -> None:
    service.says(said)
    result = await sandbox.run(Program("1"), QUICK)
    assert (result.ending, result.attempts, len(service.requests)) == (Ending.TROUBLE, 1, 1)
    assert result.detail
    assert is_line(result)


async def test_a_reply_without_end_is_not_read_to_its_end(service: Service, sandbox: Remote) -> None:
    service.says(b'"' + b"x" * 64 * MIB + b'"')
    result = await sandbox.run(Program("1"), QUICK)
    assert (result.ending, result.attempts) == (Ending.TROUBLE, 1)
    assert "longer than" in result.detail
    assert service.sent < 40 * MIB


@pytest.mark.parametrize("lost", [0, 429, 502, 503, 504])
async def test_what_was_lost_on_the_way_is_sent_again(service: Service, sandbox: Remote, lost: int) -> None:
    service.says(lost, lost, reply(run=FINE))
    result = await sandbox.run(Program("1"), QUICK)
    assert (result.ok, result.attempts) == (True, 3)
    service.says(lost)
    result = await sandbox.run(Program("1"), QUICK)
    assert (result.ending, result.attempts, len(service.requests)) == (Ending.TROUBLE, 3, 6)


async def test_nobody_there_is_trouble_and_a_refused_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAIT_SECONDS", 0.001)
    with socket.socket() as taken:  # bound and not listening: it refuses, and nobody else can have the port
        taken.bind(("127.0.0.1", 0))
        sandbox = Remote(f"http://127.0.0.1:{taken.getsockname()[1]}")
        result = await sandbox.run(Program("1"), QUICK)
        assert (result.ending, result.attempts) == (Ending.TROUBLE, 3)
        with pytest.raises(SandboxError, match=r"no programs run at http://127\.0\.0\.1:.*out of reach"):
            await sandbox.start()
        await sandbox.close()


async def test_a_service_that_says_success_to_everything_is_refused(service: Service, sandbox: Remote) -> None:
    service.says(reply(run=FINE))
    with pytest.raises(SandboxError, match="ended by exited, status 0"):
        await sandbox.start()


async def test_silence_is_trouble(service: Service, sandbox: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(remote, "BUILD_SECONDS", 0.1)
    over = asyncio.Event()

    async def silent(_: dict[str, Any]) -> tuple[int, bytes]:
        await over.wait()
        return 0, b""

    service.answer = silent
    result = await sandbox.run(Program("1"), Limits(wall_seconds=0.1))
    over.set()
    assert (result.ending, result.attempts) == (Ending.TROUBLE, 1)
    assert "within 0.3 s" in result.detail


async def test_no_more_requests_than_slots(service: Service, sandbox: Remote) -> None:
    both = asyncio.Barrier(2)

    async def answer(_: dict[str, Any]) -> tuple[int, bytes]:
        await both.wait()
        return 200, json.dumps(reply(run=FINE)).encode()

    service.answer = answer
    results = await asyncio.gather(*(sandbox.run(Program(str(number)), QUICK) for number in range(8)))
    assert all(result.ok for result in results)
    assert service.peak == 2


async def test_a_closed_sandbox_runs_nothing(service: Service, sandbox: Remote) -> None:
    arrived, over = asyncio.Event(), asyncio.Event()

    async def answer(_: dict[str, Any]) -> tuple[int, bytes]:
        arrived.set()
        await over.wait()
        return 0, b""

    service.answer = answer
    running = asyncio.create_task(sandbox.run(Program("1"), QUICK))
    await arrived.wait()
    await sandbox.close()
    assert (await running).ending is Ending.TROUBLE
    over.set()
    with pytest.raises(SandboxError, match="closed"):
        await sandbox.run(Program("1"), QUICK)


async def test_the_token_is_sent_and_nowhere_said(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", TOKEN)
    sandbox = Remote(service.url, token_variable="SERVICE_TOKEN")
    service.says(401)
    result = await sandbox.run(Program("1"), QUICK)
    assert f"authorization: bearer {TOKEN}" in service.heads[0].lower()
    with pytest.raises(SandboxError) as refused:
        await sandbox.start()
    assert not any(TOKEN in text for text in (repr(result), str(refused.value), repr(sandbox), repr(vars(sandbox))))
    await sandbox.close()


@pytest.mark.parametrize("token", ["", f"{TOKEN}\n", f"{TOKEN} x", f"{TOKEN}é"])
def test_a_token_that_cannot_be_sent_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", token)
    with pytest.raises(SandboxError, match="SERVICE_TOKEN") as refused:
        Remote("http://localhost", token_variable="SERVICE_TOKEN")
    assert TOKEN not in str(refused.value)


BAD_URLS = ("", "localhost:80", "ftp://host", "http://", "http://me:pw@host", "http://host?key=pw", "http://host:70000")


@pytest.mark.parametrize("url", BAD_URLS)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SandboxError, match="http or https") as refused:
        Remote(url)
    assert "pw" not in str(refused.value)


async def test_a_proxy_in_the_environment_is_not_asked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    sandbox = Remote(service.url + "/")
    await sandbox.start()
    await sandbox.close()


async def test_what_the_protocol_cannot_carry_is_refused(service: Service, sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="stdin"):
        await sandbox.run(Program("1", stdin=b"\xff"), QUICK)
    with pytest.raises(SandboxError, match="files"):
        await sandbox.run(Program("1", files={"a": b"", "b": b""}), Limits(files=1))
    with pytest.raises(SandboxError, match="programs only"):
        await sandbox.call(Program("1"), "f", [Call()], QUICK)
    with pytest.raises(SandboxError, match="programs only"):
        await sandbox.judge(Program("1"), "f()", ["f"], QUICK)
    with pytest.raises(SandboxError, match="slots"):
        Remote(service.url, slots=0)
    assert not service.requests


async def test_it_passes_the_suite_for_what_it_claims(sandbox: Remote) -> None:
    with planted() as host:
        findings = [finding async for finding in check(sandbox, host)]
    assert [finding for finding in findings if finding.wrong is not None] == []
    assert len(findings) == len(cases_for("remote"))
