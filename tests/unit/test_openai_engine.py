"""The HTTP engine against small servers on loopback that answer as told: what is sent, retried, refused and hidden."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from factory.engines.base import Prompt, Request
from factory.engines.openai import OpenAIEngine
from factory.errors import ConfigError, EngineDead, EngineError
from factory.types import FinishReason, Message, Sampling

KEY = "key-that-must-never-be-seen"
PROMPT = Prompt((Message("user", "hello"),), (1, 2, 3))
REQUEST = Request(Sampling(max_tokens=9))


@dataclass
class Fake:
    """A server that answers each path from a list; the last answer repeats."""

    answers: dict[str, list[tuple[int, dict[str, str], Any]]]
    seen: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    """Path, body and headers of each request."""
    hang: threading.Event | None = None
    """Set when a request has been left by its client, where generations are to hang."""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set when a request hangs."""
    base_url: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], Any]:
        queue = self.answers[path]
        return queue.pop(0) if len(queue) > 1 else queue[0]

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for at, body, _ in self.seen if at == path]


def model(owner: str = "vllm") -> tuple[int, dict[str, str], Any]:
    entry = {"id": "m", "object": "model", "created": 0, "owned_by": owner, "max_model_len": 100}
    return 200, {}, {"object": "list", "data": [entry]}


def completion(**choice: Any) -> tuple[int, dict[str, str], Any]:
    full = {"index": 0, "text": "hi", "finish_reason": "stop", "stop_reason": None, "token_ids": [7, 8, 2]} | choice
    usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    return (
        200,
        {},
        {"id": "c", "object": "text_completion", "created": 0, "model": "m", "choices": [full], "usage": usage},
    )


def chat(message: dict[str, Any] | None = None, **choice: Any) -> tuple[int, dict[str, str], Any]:
    full = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"} | (message or {})}
    usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    choices = [full | choice]
    return (
        200,
        {},
        {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage},
    )


def refusal(status: int, message: str = "no", **headers: str) -> tuple[int, dict[str, str], Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, {"error": {"message": message, "type": "error"}}


@contextmanager
def serving(
    generations: list[tuple[int, dict[str, str], Any]] | None = None,
    models: list[tuple[int, dict[str, str], Any]] | None = None,
    hang: threading.Event | None = None,
) -> Iterator[Fake]:
    spelled: list[tuple[int, dict[str, str], Any]] = [(200, {}, {"prompt": "hi"})]
    answers = {
        "/v1/models": models or [model()],
        "/v1/completions": [completion(), *(generations or [])],
        "/v1/chat/completions": generations or [chat()],
        "/detokenize": spelled,
    }
    fake = Fake(answers, hang=hang)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(fake))
    fake.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5.0

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if fake.hang is not None and body.get("max_tokens") == REQUEST.sampling.max_tokens:
                fake.reached.set()
                if self.connection.recv(1) == b"":
                    fake.hang.set()
                self.close_connection = True
                return
            self._answer(body)

        def _answer(self, body: dict[str, Any]) -> None:
            fake.seen.append((self.path, body, dict(self.headers)))
            status, headers, content = fake.answer(self.path)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Connection", "close")
            for name, value in (
                {"Content-Type": "application/json", "Content-Length": str(len(data))} | headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that it overrides
            pass

    return Handler


async def started(fake: Fake, **args: Any) -> OpenAIEngine:
    engine = OpenAIEngine(fake.base_url, "m", **({"retries": 2} | args))
    await engine.start()
    return engine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_ids_go_out_and_come_back() -> None:
    with serving([completion()]) as fake:
        engine = await started(fake)
        answer = await engine.generate(PROMPT, REQUEST)
        assert (answer.text, answer.token_ids, answer.finish) == ("hi", (7, 8), FinishReason.END)
        assert (answer.generated_tokens, answer.prompt_tokens, answer.cached_tokens) == (3, 3, None)
        assert fake.bodies("/v1/completions")[-1] == {
            "model": "m",
            "prompt": [1, 2, 3],
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": 9,
            "include_stop_str_in_output": True,
            "return_token_ids": True,
        }
        await engine.close()


async def test_a_text_cut_at_a_stop_string_is_spelled_in_full() -> None:
    with serving([completion(text="h", token_ids=[7], stop_reason="h")]) as fake:
        engine = await started(fake)
        answer = await engine.generate(PROMPT, Request(Sampling(max_tokens=9), stop=("h",), seed=4))
        assert (answer.text, answer.token_ids, answer.finish) == ("hi", (7,), FinishReason.STOP)
        assert fake.bodies("/detokenize")[-1] == {"model": "m", "tokens": [7]}
        sent = fake.bodies("/v1/completions")[-1]
        assert (sent["stop"], sent["seed"]) == (["h"], 4)
        await engine.close()


async def test_a_server_of_another_kind_is_sent_the_plain_protocol() -> None:
    with serving([chat()], models=[model("someone")]) as fake:
        engine = await started(fake, protocol="chat")
        answer = await engine.generate(PROMPT, REQUEST)
        assert (answer.text, answer.token_ids, answer.logprobs) == ("hi", None, None)
        assert fake.bodies("/v1/chat/completions")[-1] == {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": 9,
        }
        for prompt, request in (
            (PROMPT, Request(REQUEST.sampling, stop=("x",))),
            (Prompt(PROMPT.messages, prefix="so far"), REQUEST),
            (PROMPT, Request(Sampling(logprobs=True))),
            (PROMPT, Request(Sampling(extra={"max_tokens": 4}))),
        ):
            with pytest.raises(ConfigError):
                await engine.generate(prompt, request)
        await engine.close()


async def test_a_chat_text_is_continued_on_vllms_server() -> None:
    with serving([chat()]) as fake:
        engine = await started(fake, protocol="chat")
        await engine.generate(Prompt(PROMPT.messages, prefix="so far"), REQUEST)
        sent = fake.bodies("/v1/chat/completions")[-1]
        assert sent["messages"][-1] == {"role": "assistant", "content": "so far"}
        assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
        await engine.close()


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_that_comes_apart_is_put_back_in_front(name: str) -> None:
    with serving([chat({name: "because", "content": "4"})]) as fake:
        engine = await started(fake, protocol="chat", reasoning=("<r>", "</r>"))
        assert (await engine.generate(PROMPT, REQUEST)).text == "<r>because</r>4"
        await engine.close()


async def test_busy_and_broken_servers_are_tried_again() -> None:
    with serving([refusal(429, retry_after="0.01"), refusal(503, retry_after="0.01"), completion()]) as fake:
        engine = await started(fake)
        assert (await engine.generate(PROMPT, REQUEST)).text == "hi"
        assert len(fake.bodies("/v1/completions")) == 1 + 3
        await engine.close()


async def test_tries_are_limited() -> None:
    with serving([refusal(500, "broken", retry_after="0.01")]) as fake:
        engine = await started(fake)
        with pytest.raises(EngineError, match="broken") as caught:
            await engine.generate(PROMPT, REQUEST)
        assert not isinstance(caught.value, EngineDead)
        assert len(fake.bodies("/v1/completions")) == 1 + 3
        await engine.close()


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "too long"),
        completion(finish_reason="content_filter"),
        (200, {}, {"unexpected": True}),
        (200, {"Content-Type": "text/html"}, "<html>"),
    ],
)
async def test_what_is_no_answer_fails_that_request_alone_and_at_once(answer: tuple[int, dict[str, str], Any]) -> None:
    with serving([answer, completion()]) as fake:
        engine = await started(fake)
        with pytest.raises(EngineError):
            await engine.generate(PROMPT, REQUEST)
        assert len(fake.bodies("/v1/completions")) == 1 + 1
        assert (await engine.generate(PROMPT, REQUEST)).text == "hi"
        assert (engine.stats.running, engine.stats.waiting, engine.stats.generated_tokens) == (0, 0, 3)
        await engine.close()


async def test_a_server_that_is_gone_fails_requests_after_the_last_try() -> None:
    with serving() as fake:
        engine = await started(fake, retries=1)
    async with asyncio.timeout(20):
        with pytest.raises(EngineError, match="Connection error"):
            await engine.generate(PROMPT, REQUEST)
    await engine.close()


async def test_start_names_what_cannot_be_reached_or_is_not_served() -> None:
    address = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(ConfigError, match=f"no models at {address}"):
        await OpenAIEngine(address, "m", retries=0).start()
    with serving() as fake, pytest.raises(ConfigError, match=r"does not serve 'n', but m"):
        await OpenAIEngine(fake.base_url, "n").start()


async def test_a_server_that_tells_no_ids_is_refused_for_completions() -> None:
    with serving() as fake:
        fake.answers["/v1/completions"] = [completion(token_ids=None)]
        with pytest.raises(ConfigError, match="use protocol = 'chat'"):
            await started(fake)
    with serving() as fake:
        fake.answers["/detokenize"] = [refusal(404)]
        with pytest.raises(ConfigError, match="refused token ids"):
            await started(fake)


async def test_the_server_tells_what_it_can_do() -> None:
    with serving() as fake:
        engine = OpenAIEngine(fake.base_url, "m", max_running=5)
        assert engine.capabilities.token_prompts
        await engine.start()
        told = engine.capabilities
        assert (told.max_running, told.max_context, told.logprobs, told.prefix_caching) == (5, 100, False, False)
        await engine.close()


async def test_the_key_is_sent_and_told_to_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv("OPENAI_ORG_ID", "organisation")
    caplog.set_level("DEBUG")
    with serving([refusal(401, f"wrong key {KEY}")]) as fake:
        engine = await started(fake, api_key_env="TEACHER_KEY")
        with pytest.raises(EngineError, match=r"wrong key \*\*\*") as caught:
            await engine.generate(PROMPT, REQUEST)
        headers = {name.lower(): value for name, value in fake.seen[-1][2].items()}
        assert headers["authorization"] == f"Bearer {KEY}"
        assert "openai-organization" not in headers
        assert KEY not in repr(engine) + str(caught.value) + caplog.text
        await engine.close()
    with serving(models=[refusal(401, f"wrong key {KEY}")]) as fake:
        with pytest.raises(ConfigError) as refused:
            await started(fake, api_key_env="TEACHER_KEY")
        assert KEY not in str(refused.value)


async def test_no_key_is_taken_that_was_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as fake:
        await (await started(fake)).close()
        assert all(KEY not in str(headers) for _, _, headers in fake.seen)


async def test_cancelling_closes_the_connection() -> None:
    left = threading.Event()
    with serving(hang=left) as fake:
        engine = await started(fake, max_running=1)
        task = asyncio.ensure_future(engine.generate(PROMPT, REQUEST))
        assert await asyncio.to_thread(fake.reached.wait, 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(left.wait, 4)
        short = Request(Sampling(max_tokens=1))
        assert (await engine.generate(PROMPT, short)).text == "hi"
        await engine.close()


async def test_closing_ends_what_is_in_flight_and_what_waits() -> None:
    with serving(hang=threading.Event()) as fake:
        engine = await started(fake, max_running=1)
        tasks = [asyncio.ensure_future(engine.generate(PROMPT, REQUEST)) for _ in range(3)]
        await until(lambda: engine.stats.waiting == 2)
        await engine.close()
        await engine.close()
        async with asyncio.timeout(5):
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, EngineDead) for end in ends)
        with pytest.raises(EngineDead):
            await engine.generate(PROMPT, REQUEST)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"protocol": "grpc"}, "no protocol 'grpc'"),
        ({"max_running": 0}, "max_running is 0"),
        ({"max_running": 5000}, "max_running is 5000"),
        ({"timeout": 0.0}, "timeout"),
        ({"api_key_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE is not set"),
    ],
)
def test_arguments_that_cannot_work_are_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OpenAIEngine("http://127.0.0.1:1/v1", "m", **args)
